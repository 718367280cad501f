# SPDX-License-Identifier: GPL-2.0-only
# Short names for what scripts/ does; Kbuild says how the module is built.

# The module's name: newer kernels export some symbols to modules named kvm* alone
NAME ?= kvmxx
# Where the headers of the kernel to build for are: the running kernel's, else the newest installed ones
KDIR ?= $(firstword $(wildcard /lib/modules/$(shell uname -r)/build) \
	$(shell ls -d /lib/modules/*/build /usr/src/linux-headers-*-amd64 2>/dev/null | sort -rV))
export NAME KVMXX_CACHE KVMXX_BUILD

all: ## build NAME.ko (default kvmxx.ko) for the kernel headers in KDIR
	@module=$$(scripts/build-module --kdir '$(KDIR)') && cp "$$module" . && ls -l $(NAME).ko

modules_install: ## install it for that kernel (INSTALL_MOD_PATH, INSTALL_MOD_STRIP as for any module)
	@set -e; module=$$(scripts/build-module --kdir '$(KDIR)'); dir=$${module%/*}; \
	$(MAKE) --no-print-directory -C '$(KDIR)' M="$$dir" NAME=$(NAME) CONFIG_MODULE_SIG_ALL= modules_install; \
	[ '$(INSTALL_MOD_PATH)' ] || depmod "$${dir##*/}"

run: ## a Linux guest under Debian's QEMU on the module, on an emulated machine; VENDOR=intel: an Intel one; INTERACTIVE=1: its shell is yours
	@scripts/run

check: ## everything below; VENDOR=amd or VENDOR=intel: check-guest on that vendor's machines alone
	@scripts/check $(if $(VENDOR),,static module hosted) guest
check-static: ## rules that scripts can check: layers, licences, symbols
	@scripts/check static
check-module: ## build for Debian's 6.1 and for 6.12 of bookworm-backports; a warning is a failure
	@scripts/check module
check-hosted: ## unit tests and fuzzers, in user space
	@scripts/check hosted
check-guest: ## the loaded module on emulated machines: its tests, and a Linux guest; ONLY=NAME or ONLY=NAME/PROGRAM: that run alone
	@scripts/check guest

soak: ## what is not the same twice: random seeds, time, QEMU running free; ROUNDS=n, SEED=n, ONLY=PART
	@scripts/soak

bench: ## count instructions of the in-tree module and of ours, on the same kernel and machine
	@scripts/bench
profile: ## count the instructions of a CPUID exit, an OUT exit and a fault by function; INTREE=1: of the in-tree module
	@scripts/profile

clean: ## remove what was built here (the cache stays: $(KVMXX_CACHE), or ~/.cache/kvmxx)
	rm -rf build *.ko

help: ## this list
	@sed -n 's/^\([a-z_-]*\):[^#]*## \(.*\)/  \1:\2/p' $(firstword $(MAKEFILE_LIST)) | \
		sed 's/ *\$$(KVMXX_CACHE), or//' | awk -F: '{ printf "  make %-16s %s\n", $$1, substr($$0, index($$0, ":") + 1) }' | sed 's/make   */make /'

.PHONY: all modules_install run check check-static check-module check-hosted check-guest soak bench profile clean help
