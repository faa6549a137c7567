# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of VDSM's hooks share: a VDSM on an installed host, its VMs, and user vdsm's sudo.

What is installed comes from build/host beside build/plugin/hugevmctl, or HUGEVM_HOST_BUILD.
"""

import contextlib
import functools
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../vdsm"))

import harness  # noqa: E402
import installed_host  # noqa: E402
from harness import (  # noqa: E402
    DYNAMIC, Failure, check, pools, pools_become, same, total, write)
from vdsm_runner import HookError, Runner, VdsmVm  # noqa: E402

HOOKS = "/usr/libexec/vdsm/hooks"
PROGRAM = "/usr/libexec/hugevm/vdsm-hook"
SUDOERS = "/etc/sudoers.d/50_vdsm_hook_hugevm"
LIBVIRT_HOOK = "/etc/libvirt/hooks/qemu.d/50-hugevm"
CONF = "/etc/hugevm/hugevm.conf"
POINTS = ("before_vm_start", "before_vm_migrate_destination", "before_vm_dehibernate",
          "after_vm_start", "after_vm_migrate_destination", "after_vm_destroy",
          "after_vm_migrate_source", "after_vm_hibernate", "before_memory_hotplug",
          "after_memory_hotplug")  # those that ask root
BASE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
NEED = 128  # pages of 2 MiB for 256 MiB
ELEMENT = "<hugepages>"
HUGE = "<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>"
PASSED, REFUSED = 0, 2
PATIENCE_S = 30


@functools.lru_cache(maxsize=None)
def libvirtd():
    """One for all cases: it makes the directory in the hugetlbfs mount that root's half looks for."""
    return installed_host.Libvirtd()


# --- VDSM and its VMs -------------------------------------------------------------------------


class Vm(VdsmVm):
    """A VM of VDSM's, with what its tests ask again and again."""

    def __init__(self, bench, runner, properties=None, **options):
        self.bench = bench
        self.domain = bench.vm(**options)
        self.name = self.domain.name
        self.before = self.domain.xml
        super().__init__(runner, self.domain.uuid, self.domain.xml, properties)

    def launch(self, xml):
        libvirtd().virsh("create", write(f"{self.bench.directory}/{self.name}-create.xml", xml),
                         status=0)

    def end(self):
        libvirtd().virsh("destroy", self.name, status=0)

    def refused(self, action=None):
        """The start is refused by our hook, and nothing has happened; the line that says why."""
        found = pools()
        try:
            (action or self.before_vm_start)()
        except HookError as error:
            status, text = next((status, text) for path, status, text in reversed(self.runner.log)
                                if path.endswith("/50_hugevm"))
            same((status, text), (REFUSED, str(error)), "the hook's status and line")
        else:
            raise Failure("the start is not refused")
        is_one_line(text)
        same(self.xml, self.before, "the XML after a refusal")
        pools_become(found, "pools after a refusal")
        same(self.bench.claims(), [], "claims after a refusal")
        return text


def is_one_line(text):
    check(text.startswith("hugevm: ") and text.endswith("\n") and text[:-1].isprintable(),
          f"no line of ours, or more than one: {text!r}")


def end_unseen(vm):
    """Its QEMU dies, and nobody calls a hook of VDSM's."""
    harness.end_process(vm.domain.qemu())
    harness.until(lambda: not vm.domain.qemu(), "QEMU's end", 10)


def vdsm(bench, conf=DYNAMIC):
    """A runner of VDSM's, with a directory for its files; libvirtd is up."""
    libvirtd()
    os.makedirs(os.path.dirname(CONF), exist_ok=True)
    write(CONF, conf)
    directory = f"{bench.directory}/vdsm"
    os.mkdir(directory)
    runner = Runner(HOOKS, directory, base=BASE)
    runner.timeout = PATIENCE_S
    check(runner.user, "there is no user vdsm")
    os.chown(directory, runner.user["user"], runner.user["group"])
    return runner


def silent(runner):
    """Whatever ran so far has passed without a word."""
    same([entry for entry in runner.log if entry[1:] != (PASSED, "")], [], "what hooks have said")


@contextlib.contextmanager
def script(point, name, text):
    path = write(f"{HOOKS}/{point}/{name}", f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)
    try:
        yield
    finally:
        os.unlink(path)


@contextlib.contextmanager
def other_sudo(text):
    with without("/usr/bin/sudo"):
        os.chmod(write("/usr/bin/sudo", f"#!/bin/sh\n{text}\n"), 0o755)
        yield


@contextlib.contextmanager
def without(path):
    """The host is as if the file had never been installed."""
    away = f"{installed_host.SCRATCH}/away-{os.path.basename(path)}"
    subprocess.run(["mv", path, away], check=True)
    try:
        yield
    finally:
        subprocess.run(["mv", away, path], check=True)


def claimed(bench, state, pages=NEED, owner="vdsm", pid=None):
    """There is one claim, it is as said, and its pages are there once; the claim."""
    claims = bench.claims()
    same(len(claims), 1, "number of claims")
    claim = claims[0]
    same((claim["state"], claim["owner"]), (state, owner), "state and owner of the claim")
    if owner == "vdsm":
        same(claim["owner_pid"], pid or os.getpid(), "pid of the claim's owner")
    same(total(), pages, "pages there")
    return claim


def sudo(runner, *arguments, data=b"", environment=None):
    """sudo as user vdsm: exit status and stderr."""
    done = subprocess.run(["/usr/bin/sudo", "-n", *arguments], input=data, capture_output=True,
                          timeout=PATIENCE_S, env={**BASE, **(environment or {})}, check=False,
                          **runner.user)
    return done.returncode, done.stderr.decode(errors="replace")


# --- main -------------------------------------------------------------------------------------


def prepare_host():
    """Enters the installed host; why that cannot be, or None."""
    if os.environ.get("HUGEVM_E2E") != "1" or os.geteuid() != 0:
        return None
    beside = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[1])))
    build = os.environ.get("HUGEVM_HOST_BUILD") or f"{beside}/host"
    try:
        installed_host.enter(build)
    except installed_host.Unusable as error:
        return str(error)
    subprocess.run(["useradd", "-r", "-M", "-s", "/usr/sbin/nologin", "vdsm"], check=False)
    modules = [*glob.glob("/usr/lib*/hugevm/*/hugevm.so"), *glob.glob("/usr/lib*/*/hugevm/*/hugevm.so")]
    for path in (PROGRAM, SUDOERS, LIBVIRT_HOOK, "/usr/bin/sudo", "/usr/sbin/hugevmctl", *modules[:1]):
        if not os.path.exists(path):
            return f"there is no {path} (of {build})"
    if len(modules) != 1:
        return f"not one hugevm.so is installed, but {modules}"
    sys.argv[1:3] = ["/usr/sbin/hugevmctl", modules[0]]
    return None


def main(cases):
    lack = prepare_host()
    if lack is not None:
        print(f"1..1\n# {lack}\nnot ok 1 - this machine can be an installed host")
        return 1
    try:
        return harness.main(cases)
    finally:
        if libvirtd.cache_info().currsize:
            libvirtd().stop()
