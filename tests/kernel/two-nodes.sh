#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with two pages of 1 GiB on each of two nodes since boot: facts about splitting
# them.

echo "# ==> probe-demote"
probe-demote
exit 0
