/* SPDX-License-Identifier: GPL-2.0-only */
/* In C++ the empty structure that UAPI puts before a flexible array has a size, which moves the array
 * and, by sizeof, the ioctl's number. An array of no elements has the C layout in both. */
#ifndef _UAPI_LINUX_STDDEF_H
#define _UAPI_LINUX_STDDEF_H
#include <linux/compiler_types.h>
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]
#define __counted_by(member)
#endif
