# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of a host agent in this process share: hugevm_host.py on a bench."""

import os
import sys

import harness
from harness import DYNAMIC, M2, same
from hugevm_host import Host, HugevmError

HERE = os.path.dirname(os.path.abspath(__file__))
HUGE = {"hugepages": str(M2)}
NEED = 128  # pages of a VM as the bench makes it


def open_host(bench, conf=DYNAMIC, **options):
    return Host(harness.module, [bench.conf(conf)], **options)


def refused(code, function, *arguments, **options):
    """The error of a call that must fail with this code."""
    try:
        function(*arguments, **options)
    except HugevmError as error:
        same(error.code, code, f"code of '{error}'")
        return error
    raise harness.Failure(f"the call succeeded, and should fail with code {code}")


def guest(bench, kind, pages, uuid, program="somebody"):
    """A process that holds pages; hugevm takes a program named qemu... for the VM's QEMU."""
    path = f"{bench.directory}/{program}"
    if not os.path.lexists(path):
        os.symlink(sys.executable, path)
    process = bench.start([path, f"{HERE}/guest.py", kind, str(pages), "-uuid", uuid])
    same(process.stdout.readline().strip(), "ready", "the guest says")
    return process
