#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands for a VM: holds huge pages, says so, and waits to be ended.

usage: guest.py {touched|untouched} PAGES [OPTION VALUE ...] -uuid UUID

    --size KIB        of a page (2048)
    --directory DIR   on hugetlbfs: files there, as QEMU makes them (without: anonymous memory)
    --shared 1        maps the files shared
    --cells COUNT     so many mappings of PAGES each, one after the other is complete (1)
    --pause MS        between two of them (0)

Run through a symlink to Python whose name holds "qemu", hugevm takes it for that VM's QEMU. Prints
"ready", or what went wrong: "no pages" is the kernel's ENOMEM.
"""

import contextlib
import errno
import mmap
import os
import signal
import sys
import time

MAP_HUGETLB, MAP_HUGE_SHIFT = 0x40000, 26


def say(text):
    """A VM goes on when its agent has died."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{text}\n".encode())


def map_cell(number, size, page_bytes, options):
    if "--directory" not in options:
        flags = MAP_HUGETLB | ((page_bytes.bit_length() - 1) << MAP_HUGE_SHIFT)
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
    path = f"{options['--directory']}/cell{number}-{os.getpid()}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    os.ftruncate(file, size)
    kind = mmap.MAP_SHARED if options.get("--shared") == "1" else mmap.MAP_PRIVATE
    return mmap.mmap(file, size, flags=kind)  # dup()s the file, and keeps that


def main():
    pages = int(sys.argv[2])
    options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
    page_bytes = int(options.get("--size", "2048")) * 1024
    cells = []
    for number in range(int(options.get("--cells", "1"))):
        if number > 0:
            time.sleep(int(options.get("--pause", "0")) / 1000)
        try:
            cells.append(map_cell(number, pages * page_bytes, page_bytes, options))
        except OSError as error:
            say("no pages" if error.errno == errno.ENOMEM else error)
            return 1
        for page in range(pages if sys.argv[1] == "touched" else 0):
            cells[-1][page * page_bytes] = 1
    say("ready")
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
