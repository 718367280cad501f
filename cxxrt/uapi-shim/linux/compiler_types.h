/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel strips from the headers it installs; the unstripped ones want these. */
#pragma once
#define __user
