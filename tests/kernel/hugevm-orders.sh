#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with one node: some of the orders in which several VMs may start, run and end.
# All of them are tried where the program runs without emulation, on the machine's own pool.

orders --count 12 /usr/bin/hugevm.so
