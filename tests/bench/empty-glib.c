/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What GLib alone costs a program: for bench-hook.py, beside the hooks. */
#include <glib.h>

int main(void)
{
    return g_get_monotonic_time() == 0;
}
