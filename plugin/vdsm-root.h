/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Root's half of VDSM's hook program: sudo runs it, the other half talks to it. */
#pragma once

/* One event: the request from standard input, the reply to standard output. An exit status. */
int vdsm_root_main(const char *point);

/* before_vdsm_start, which VDSM's unit runs as root: lets go of what VDSM has missed. A status. */
int vdsm_root_before_vdsm_start(void);
