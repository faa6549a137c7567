# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hugevm's custody leaves in the kernel while a VM starts: guards and launch mounts."""

import ctypes
import os

GUARD_PREFIX = 0x487  # the top 12 bits of a guard's key
MOUNT_PREFIX = "hugevm:"
MNT_DETACH = 2
IPC_RMID = 0

libc = ctypes.CDLL(None, use_errno=True)


def _lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def guards():
    """The ids of SysV segments with a guard's key."""
    rows = [line.split() for line in _lines("/proc/sysvipc/shm")[1:]]
    return [int(row[1]) for row in rows if (int(row[0]) & 0xFFFFFFFF) >> 20 == GUARD_PREFIX]


def launch_mounts():
    """Where launch mounts are, the latest first."""
    rows = [line.split() for line in _lines("/proc/self/mounts")]
    return [row[1].encode().decode("unicode_escape") for row in reversed(rows)
            if row[0].startswith(MOUNT_PREFIX)]


def remove_all():
    """For the end of a test that fails: what is left would hurt the next."""
    for directory in launch_mounts():
        libc.umount2(os.fsencode(directory), MNT_DETACH)
    for number in guards():
        libc.shmctl(number, IPC_RMID, None)
