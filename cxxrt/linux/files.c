// SPDX-License-Identifier: GPL-2.0-only
/* The device, the VM and vCPU files, eventfds, the log. */
#include <linux/anon_inodes.h>
#include <linux/compat.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/version.h>
#include "glue.h"

static long system_ioctl(struct file *f, unsigned int cmd, unsigned long arg)
{
	return kxc_system_ioctl(cmd, arg);
}

static long vm_ioctl(struct file *f, unsigned int cmd, unsigned long arg)
{
	return kxc_vm_ioctl(f->private_data, cmd, arg);
}

static long vcpu_ioctl(struct file *f, unsigned int cmd, unsigned long arg)
{
	return kxc_vcpu_ioctl(f->private_data, cmd, arg);
}

#ifdef CONFIG_COMPAT
/* The structures are the same for 32-bit callers, their signal sets too; for the one pointer in them see
 * kx_in_compat()'s caller. */
static long vm_compat(struct file *f, unsigned int cmd, unsigned long arg)
{
	return kxc_vm_ioctl(f->private_data, cmd, (unsigned long)compat_ptr(arg));
}

static long vcpu_compat(struct file *f, unsigned int cmd, unsigned long arg)
{
	return kxc_vcpu_ioctl(f->private_data, cmd, (unsigned long)compat_ptr(arg));
}

static long system_compat(struct file *f, unsigned int cmd, unsigned long arg)
{
	return kxc_system_ioctl(cmd, (unsigned long)compat_ptr(arg));
}
#else
#define vm_compat NULL
#define vcpu_compat NULL
#define system_compat NULL
#endif

static int vm_release(struct inode *i, struct file *f)
{
	kxc_vm_release(f->private_data);
	return 0;
}

static int vcpu_release(struct inode *i, struct file *f)
{
	kxc_vcpu_release(f->private_data);
	return 0;
}

static ssize_t vm_stats_read(struct file *f, char __user *to, size_t n, loff_t *pos)
{
	long got = kxc_vm_stats(f->private_data, (unsigned long)to, n, *pos);

	if (got > 0)
		*pos += got;
	return got;
}

static ssize_t vcpu_stats_read(struct file *f, char __user *to, size_t n, loff_t *pos)
{
	long got = kxc_vcpu_stats(f->private_data, (unsigned long)to, n, *pos);

	if (got > 0)
		*pos += got;
	return got;
}

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	void *p = kxc_vcpu_page(vmf->vma->vm_file->private_data, vmf->pgoff);

	if (!p)
		return VM_FAULT_SIGBUS;
	vmf->page = virt_to_page(p);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = { .fault = vcpu_fault };

static int vcpu_mmap(struct file *f, struct vm_area_struct *vma)
{
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

static const struct file_operations system_fops = {
	.owner = THIS_MODULE, .unlocked_ioctl = system_ioctl, .compat_ioctl = system_compat, .llseek = noop_llseek,
};
static const struct file_operations vm_fops = {
	.owner = THIS_MODULE, .release = vm_release, .unlocked_ioctl = vm_ioctl, .compat_ioctl = vm_compat,
	.llseek = noop_llseek,
};
static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE, .release = vcpu_release, .unlocked_ioctl = vcpu_ioctl, .compat_ioctl = vcpu_compat,
	.mmap = vcpu_mmap, .llseek = noop_llseek,
};

/* (KVM's does not seek, and its documentation says that it may be used.) */
static const struct file_operations vm_stats_fops = {
	.owner = THIS_MODULE, .release = vm_release, .read = vm_stats_read, .llseek = no_seek_end_llseek,
};
static const struct file_operations vcpu_stats_fops = {
	.owner = THIS_MODULE, .release = vcpu_release, .read = vcpu_stats_read, .llseek = no_seek_end_llseek,
};

static int prepare(const char *name, const struct file_operations *ops, void *object, int flags, struct file **file)
{
	int fd = get_unused_fd_flags(O_CLOEXEC);

	if (fd < 0)
		return fd;
	*file = anon_inode_getfile(name, ops, object, flags);
	if (IS_ERR(*file)) {
		put_unused_fd(fd);
		return PTR_ERR(*file);
	}
	return fd;
}

int kx_in_compat(void)
{
	return in_compat_syscall();
}

int kx_fd_vm(void *vm)
{
	struct file *file;
	int fd = prepare("kvm-vm", &vm_fops, vm, O_RDWR, &file);

	if (fd >= 0)
		fd_install(fd, file);
	return fd;
}

int kx_fd_vcpu_prepare(void *vcpu, unsigned int id, void **file)
{
	char name[32];

	snprintf(name, sizeof(name), "kvm-vcpu:%u", id);
	return prepare(name, &vcpu_fops, vcpu, O_RDWR, (struct file **)file);
}

void kx_fd_publish(int fd, void *file)
{
	fd_install(fd, file);
}

static int stats(const char *name, const struct file_operations *ops, void *object)
{
	struct file *file;
	int fd = prepare(name, ops, object, O_RDONLY, &file);

	if (fd >= 0) {
		file->f_mode |= FMODE_PREAD;
		fd_install(fd, file);
	}
	return fd;
}

int kx_fd_vm_stats(void *vm)
{
	return stats("kvm-vm-stats", &vm_stats_fops, vm);
}

int kx_fd_vcpu_stats(void *vcpu, unsigned int id)
{
	char name[32];

	snprintf(name, sizeof(name), "kvm-vcpu-stats:%u", id);
	return stats(name, &vcpu_stats_fops, vcpu);
}

int kx_eventfd_get(int fd, void **eventfd)
{
	struct eventfd_ctx *ctx = eventfd_ctx_fdget(fd);

	*eventfd = ctx;
	return PTR_ERR_OR_ZERO(ctx);
}

void kx_eventfd_put(void *eventfd)
{
	eventfd_ctx_put(eventfd);
}

void kx_eventfd_signal(void *eventfd)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	eventfd_signal(eventfd);
#else
	eventfd_signal(eventfd, 1);
#endif
}

static DEFINE_RATELIMIT_STATE(log_limit, 5 * HZ, 20);

void kx_log(int level, const char *msg, kx_u64 a, kx_u64 b)
{
	if (level < 7 && !__ratelimit(&log_limit))
		return;
	if (level <= 3)
		pr_err("kvmxx: %s (%llx, %llx)\n", msg, a, b);
	else if (level <= 4)
		pr_warn("kvmxx: %s (%llx, %llx)\n", msg, a, b);
	else
		pr_info("kvmxx: %s (%llx, %llx)\n", msg, a, b);
}

static struct miscdevice device = { .minor = MISC_DYNAMIC_MINOR, .fops = &system_fops, .mode = 0600 };

int kx_files_init(const char *name)
{
	device.name = name;
	/* /dev/kvm has a number of its own, and udev rules that know it. */
	if (!strcmp(name, "kvm"))
		device.minor = KVM_MINOR;
	return misc_register(&device);
}

void kx_files_exit(void)
{
	misc_deregister(&device);
}
