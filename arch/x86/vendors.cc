// SPDX-License-Identifier: GPL-2.0-only
/* The core, once for each vendor, and the door to it. */
#include "arch/x86/svm/exits.hpp"
#include "arch/x86/vmx/exits.hpp"
#include "arch/x86/vm/door.hpp"
#include "arch/x86/vm/vcpu_core.hpp"
#include "arch/x86/vm/vcpu_emulate.hpp"
#include "arch/x86/vm/vcpu_exit.hpp"
#include "arch/x86/vm/vcpu_io.hpp"
#include "arch/x86/vm/vcpu_paging.hpp"
#include "arch/x86/vm/vcpu_registers.hpp"
#include "arch/x86/vm/vcpu_reports.hpp"
#include "arch/x86/vm/vcpu_run.hpp"
#include "arch/x86/vm/vcpu_state.hpp"
#include "arch/x86/vm/vm_impl.hpp"

namespace kx {

namespace {

template <Vendor V> consteval Door door_for()
{
	using M = Vm<V>;
	using C = Vcpu<V>;
	return {
		.vendor = V::name,
		.init = [] {
			KX_CHECK(V::init());
			auto s = make<System>();
			if (!s.ok()) {
				V::exit();
				return Errc::nomem;
			}
			sys = move(s).take().release();
			sys->init(V::support());
			sys->mmu = V::mmu_caps();
			return Errc::ok;
		},
		.exit = [] {
			Owned<System>{sys}.reset();
			sys = nullptr;
			V::exit();
		},
		.online = V::online,
		.offline = V::offline,
		.emergency = V::emergency,
		.create_vm = [](unsigned long type) {
			auto r = M::create(type);
			return r.ok() ? long(r.peek()) : -long(r.error());
		},
		.vm_ioctl = [](void *m, unsigned cmd, unsigned long arg) { return static_cast<M *>(m)->ioctl(cmd, arg); },
		.vm_release = [](void *m) { static_cast<M *>(m)->close(); },
		.vcpu_ioctl = [](void *c, unsigned cmd, unsigned long arg) { return static_cast<C *>(c)->ioctl(cmd, arg); },
		.vcpu_release = [](void *c) { static_cast<C *>(c)->vm.close(); },
		.vm_stats = [](void *m, u64 to, size_t n, u64 pos) { return static_cast<M *>(m)->read_stats(to, n, pos); },
		.vcpu_stats = [](void *c, u64 to, size_t n, u64 pos) { return static_cast<C *>(c)->read_stats(to, n, pos); },
		.vcpu_page = [](void *c, unsigned long n) { return static_cast<C *>(c)->page(n); },
		.sched_in = [](void *c, unsigned cpu) { static_cast<C *>(c)->sched_in(cpu); },
		.sched_out = [](void *c) { static_cast<C *>(c)->sched_out(); },
		.notifier_start = [](void *m, u64 a, u64 b) { static_cast<M *>(m)->memory.notifier_start(Hva{a}, Hva{b}); },
		.notifier_end = [](void *m, u64 a, u64 b) { static_cast<M *>(m)->memory.notifier_end(Hva{a}, Hva{b}); },
		.notifier_age = [](void *m, u64 a, u64 b, int clear) -> int {
			return static_cast<M *>(m)->memory.notifier_age(Hva{a}, Hva{b},
									clear ? Ageing::clear : Ageing::test);
		},
		.notifier_gone = [](void *m) { static_cast<M *>(m)->memory.notifier_gone(); },
	};
}

constexpr Door svm_door = door_for<svm::Svm>(), vmx_door = door_for<vmx::Vmx>();
constinit const Door *door;

}

}

using namespace kx;

extern "C" {

int kxc_init(void)
{
	const Door *const all[] = {&svm_door, &vmx_door};
	Errc last = Errc::nodev;
	for (const Door *d : all) {
		last = d->init();
		if (last == Errc::ok) {
			door = d;
			return 0;
		}
		if (last != Errc::nodev)
			break;
	}
	if (last == Errc::nodev)
		kx_log(3, "this processor has no hardware virtualization that kvmxx supports", 0, 0);
	return -int(last);
}

void kxc_exit(void) { door->exit(); }
int kxc_cpu_online(unsigned cpu) { return -int(door->online(cpu)); }
void kxc_cpu_offline(unsigned cpu) { door->offline(cpu); }
void kxc_cpu_emergency(void) { door->emergency(); }

long kxc_system_ioctl(unsigned cmd, unsigned long arg)
{
	return cmd == KVM_CREATE_VM ? door->create_vm(arg) : system_ioctl(cmd, arg);
}

long kxc_vm_ioctl(void *vm, unsigned cmd, unsigned long arg) { return door->vm_ioctl(vm, cmd, arg); }
long kxc_vcpu_ioctl(void *vcpu, unsigned cmd, unsigned long arg) { return door->vcpu_ioctl(vcpu, cmd, arg); }
void kxc_vm_release(void *vm) { door->vm_release(vm); }
void kxc_vcpu_release(void *vcpu) { door->vcpu_release(vcpu); }
long kxc_vm_stats(void *vm, kx_u64 to, kx_size n, kx_u64 pos) { return door->vm_stats(vm, to, n, pos); }
long kxc_vcpu_stats(void *vcpu, kx_u64 to, kx_size n, kx_u64 pos) { return door->vcpu_stats(vcpu, to, n, pos); }
void *kxc_vcpu_page(void *vcpu, unsigned long pgoff) { return door->vcpu_page(vcpu, pgoff); }
void kxc_sched_in(void *vcpu, unsigned cpu) { door->sched_in(vcpu, cpu); }
void kxc_sched_out(void *vcpu) { door->sched_out(vcpu); }

int kxc_notifier_start(void *vm, kx_u64 start, kx_u64 end)
{
	door->notifier_start(vm, start, end);
	return 0;
}

void kxc_notifier_end(void *vm, kx_u64 start, kx_u64 end) { door->notifier_end(vm, start, end); }

int kxc_notifier_age(void *vm, kx_u64 start, kx_u64 end, int clear)
{
	return door->notifier_age(vm, start, end, clear);
}

void kxc_notifier_gone(void *vm) { door->notifier_gone(vm); }

}
