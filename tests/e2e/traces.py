# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hugevm's custody leaves in the kernel while a VM starts: guards and launch mounts."""

import contextlib
import ctypes
import os
import shutil

GUARD_PREFIX = 0x487  # the top 12 bits of a guard's key
MOUNT_PREFIX = "hugevm:"
VAULT = "/run/hugevm/vault/namespace"
MNT_DETACH = 2
IPC_RMID = 0

libc = ctypes.CDLL(None, use_errno=True)


def _lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def guards():
    """All guards: names in the vault, and ids of SysV segments with a guard's key."""
    return in_vault() + segments()


def segments():
    """The ids of SysV segments with a guard's key."""
    rows = [line.split() for line in _lines("/proc/sysvipc/shm")[1:]]
    return [int(row[1]) for row in rows if (int(row[0]) & 0xFFFFFFFF) >> 20 == GUARD_PREFIX]


def in_vault(vault=VAULT):
    """The names of the mounts that wait in hugevm's own namespace."""
    if not os.path.exists(vault):
        return []
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # a process of its own: there is no way back
        with contextlib.suppress(OSError):
            with open(vault, "rb") as file:
                if libc.setns(file.fileno(), 0) == 0:
                    names = [name for name in os.listdir("/") if name.count(":") == 2]
                    os.write(writer, "\n".join(names).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        names = file.read().split()
    os.waitpid(pid, 0)
    return names


def launch_mounts():
    """Where launch mounts are, the latest first."""
    rows = [line.split() for line in _lines("/proc/self/mounts")]
    return [row[1].encode().decode("unicode_escape") for row in reversed(rows)
            if row[0].startswith(MOUNT_PREFIX)]


def remove_all():
    """For the end of a test that fails: what is left would hurt the next."""
    for directory in launch_mounts():
        libc.umount2(os.fsencode(directory), MNT_DETACH)
    for number in segments():
        libc.shmctl(number, IPC_RMID, None)
    # the vault's mounts go with it
    for path in (VAULT, os.path.dirname(VAULT)):
        if os.path.exists(path):
            libc.umount2(os.fsencode(path), MNT_DETACH)
    shutil.rmtree(os.path.dirname(VAULT), ignore_errors=True)
