# SPDX-License-Identifier: GPL-2.0-only
# Objects of the hosted programs are kept by content, for all trees of a machine: what was compiled once is not compiled
# again from the same text with the same flags. So nothing in an object may say where its tree is: $(top) is relative, and
# the directory that debuggers are told is mapped away. Without ccache everything works, and takes longer.
ccache := $(shell command -v ccache)
portable := -ffile-prefix-map=$(abspath $(top))=.
export CCACHE_DIR := $(or $(KVMXX_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kvmxx)/ccache
export CCACHE_MAXSIZE := 3G
export CCACHE_NOHASHDIR := 1
