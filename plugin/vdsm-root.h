/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Root's half of VDSM's hook program: sudo runs it, the other half talks to it. */
#pragma once

/* One event: the request from standard input, the reply to standard output. An exit status. */
int vdsm_root_main(const char *point);
