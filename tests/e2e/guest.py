#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands for a VM: holds huge pages of the default size, says so, and waits to be ended.

usage: guest.py {touched|untouched} PAGES -uuid UUID

Run through a symlink to Python whose name holds "qemu", hugevm takes it for that VM's QEMU. Prints
"ready", or what went wrong: "no pages" is the kernel's ENOMEM.
"""

import mmap
import signal
import sys

PAGE_BYTES = 2048 * 1024
MAP_HUGETLB = 0x40000


def main():
    pages = int(sys.argv[2])
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB
    try:
        memory = mmap.mmap(-1, pages * PAGE_BYTES, flags=flags)
    except OSError:
        print("no pages", flush=True)
        return 1
    for page in range(pages if sys.argv[1] == "touched" else 0):
        memory[page * PAGE_BYTES] = 1
    print("ready", flush=True)
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
