// SPDX-License-Identifier: GPL-2.0-only
/* Load, unload, CPU hotplug, suspend, reboot, crash. */
#include <linux/cpu.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <linux/syscore_ops.h>
#include <linux/version.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/reboot.h>
#include "glue.h"

static char *dev = "kvmxx";
module_param(dev, charp, 0444);
MODULE_PARM_DESC(dev, "name of the device under /dev (default kvmxx; kvm where the in-tree module is not loaded)");

struct kx_params kx_params = {
	.nrips = 1, .vpid = 1, .eptad = 1, .unrestricted_guest = 1, .vnmi = 1, .pml = 1, .flexpriority = 1,
};
module_param_named(ignore_msrs, kx_params.ignore_msrs, bool, 0444);
MODULE_PARM_DESC(ignore_msrs, "unknown MSRs read as zero and take writes, instead of #GP");
module_param_named(nrips, kx_params.nrips, bool, 0444);
MODULE_PARM_DESC(nrips, "use the processor's next RIP where it gives one");

module_param_named(vpid, kx_params.vpid, bool, 0444);
MODULE_PARM_DESC(vpid, "Intel: tag guests in the TLB");
module_param_named(eptad, kx_params.eptad, bool, 0444);
MODULE_PARM_DESC(eptad, "Intel: accessed and dirty bits of extended page tables");
module_param_named(unrestricted_guest, kx_params.unrestricted_guest, bool, 0444);
MODULE_PARM_DESC(unrestricted_guest, "Intel: run real and unpaged mode; without, such a guest ends in KVM_EXIT_INTERNAL_ERROR");
module_param_named(vnmi, kx_params.vnmi, bool, 0444);
MODULE_PARM_DESC(vnmi, "Intel: the processor follows the end of NMI handlers");
module_param_named(pml, kx_params.pml, bool, 0444);
MODULE_PARM_DESC(pml, "Intel: the processor logs dirty pages");
module_param_named(flexpriority, kx_params.flexpriority, bool, 0444);
MODULE_PARM_DESC(flexpriority, "Intel: the processor shadows the task priority");
module_param_named(dump_invalid_vmcs, kx_params.dump_invalid_vmcs, bool, 0644);
MODULE_PARM_DESC(dump_invalid_vmcs, "Intel: print the VMCS when an entry fails");

/*
 * A CPU goes when no thread runs on it any more: a vCPU's thread that is switched in there would find
 * nothing to load its state into. Of the states that promise that, one is the in-tree module's; it has
 * it while it is loaded, and from 6.12 on while it runs a VM.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define HOTPLUG_STATE CPUHP_AP_KVM_ONLINE
#else
#define HOTPLUG_STATE CPUHP_AP_KVM_STARTING
#endif

static int bring_online(unsigned int cpu)
{
	unsigned long flags;
	int ret;

	local_irq_save(flags);
	ret = kxc_cpu_online(cpu);
	if (!ret)
		kx_user_return_cpu_here();
	local_irq_restore(flags);
	return ret;
}

/* Before 6.5 this may not fail: a VM that comes to run there dies. */
static int starting(unsigned int cpu)
{
	int ret = bring_online(cpu);

	if (ret)
		pr_err("kvmxx: no virtualization on CPU %u: error %d\n", cpu, ret);
	return HOTPLUG_STATE < CPUHP_AP_ONLINE ? 0 : ret;
}

static int take_offline(unsigned int cpu)
{
	unsigned long flags;

	local_irq_save(flags);
	kx_user_return_cpu_gone();
	kxc_cpu_offline(cpu);
	local_irq_restore(flags);
	return 0;
}

static void online_here(void *error)
{
	int ret = bring_online(smp_processor_id());

	if (ret)
		cmpxchg((int *)error, 0, ret);
}

static void offline_here(void *unused)
{
	take_offline(smp_processor_id());
}

static int cpus_on(void)
{
	int error = 0;

	cpus_read_lock();
	on_each_cpu(online_here, &error, 1);
	if (!error)
		error = cpuhp_setup_state_nocalls_cpuslocked(HOTPLUG_STATE, "x86/kvmxx:online", starting, take_offline);
	if (error)
		on_each_cpu(offline_here, NULL, 1);
	cpus_read_unlock();
	if (error == -EBUSY)
		pr_err("kvmxx: virtualization is in use; the in-tree module has to be unloaded first\n");
	return error;
}

static void cpus_off(void)
{
	cpus_read_lock();
	__cpuhp_remove_state_cpuslocked(HOTPLUG_STATE, false);
	on_each_cpu(offline_here, NULL, 1);
	cpus_read_unlock();
}

kx_u64 kx_tsc_lost;
static u64 tsc_at_suspend;

/* Only the boot CPU is left, interrupts are off. The others come and go by hotplug. */
static int suspend(void)
{
	tsc_at_suspend = rdtsc();
	kx_user_return_cpu_gone();	/* resume writes the host's values, and we would not know */
	kxc_cpu_offline(smp_processor_id());
	return 0;
}

static void resume(void)
{
	/* On some machines it starts anew, on all CPUs alike. To a guest it does not go back: it has stood still. */
	const u64 tsc = rdtsc();

	if (tsc < tsc_at_suspend)
		kx_tsc_lost += tsc_at_suspend - tsc;
	if (kxc_cpu_online(smp_processor_id()))
		pr_err("kvmxx: virtualization did not come back after resume\n");
}

static struct syscore_ops syscore = { .suspend = suspend, .resume = resume };

static void emergency_this_cpu(void *unused)
{
	kxc_cpu_emergency();
}

static int reboot(struct notifier_block *nb, unsigned long action, void *unused)
{
	on_each_cpu(emergency_this_cpu, NULL, 1);
	return NOTIFY_OK;
}

static struct notifier_block reboot_nb = { .notifier_call = reboot };

/* An NMI that ended guest mode is passed on by INT, which FRED takes for a program's. */
static bool fred_in_use(void)
{
#ifdef X86_FEATURE_FRED
	return cpu_feature_enabled(X86_FEATURE_FRED);
#else
	return false;
#endif
}

static int __init kvmxx_init(void)
{
	int ret;

	if (fred_in_use()) {
		pr_err("kvmxx: this kernel takes its events by FRED, which is not supported yet: boot it with fred=off\n");
		return -EOPNOTSUPP;
	}
	kx_direct_map = PAGE_OFFSET;
	ret = kx_sync_init();
	if (ret)
		return ret;
	ret = kx_thread_module_init();
	if (ret)
		goto no_thread;
	ret = kxc_init();
	if (ret)
		goto no_core;
	ret = cpus_on();
	if (ret)
		goto no_cpus;
	register_syscore_ops(&syscore);
	register_reboot_notifier(&reboot_nb);
	cpu_emergency_register_virt_callback(kxc_cpu_emergency);
	ret = kx_files_init(dev);
	if (ret) {
		pr_err("kvmxx: cannot create /dev/%s: error %d\n", dev, ret);
		goto no_device;
	}
	return 0;

no_device:
	cpu_emergency_unregister_virt_callback(kxc_cpu_emergency);
	unregister_reboot_notifier(&reboot_nb);
	unregister_syscore_ops(&syscore);
	cpus_off();
no_cpus:
	kxc_exit();
no_core:
	kx_thread_module_exit();
no_thread:
	kx_sync_exit();
	return ret;
}

static void __exit kvmxx_exit(void)
{
	kx_files_exit();
	kx_sync_exit();		/* VMs closed a moment ago are gone after this */
	cpu_emergency_unregister_virt_callback(kxc_cpu_emergency);
	unregister_reboot_notifier(&reboot_nb);
	unregister_syscore_ops(&syscore);
	cpus_off();
	kxc_exit();
	kx_thread_module_exit();
}

module_init(kvmxx_init);
module_exit(kvmxx_exit);
MODULE_DESCRIPTION("KVM-class hypervisor");
MODULE_LICENSE("GPL");
