# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of libvirt's hook share: one libvirtd for all cases, and VMs that it starts.

A case takes a bench and a host. Before it the host is as installed, with dynamic allocation on;
after it no VM is left.
"""

import contextlib
import functools
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
from xml.sax.saxutils import escape

import harness
from harness import DYNAMIC, M2, STATE, check, end_process, read, same, until, write
from installed_host import HOOKS, SCRATCH, Libvirtd, Syslog, Unusable, enter

HOOK = f"{HOOKS}/qemu.d/50-hugevm"
CONF = "/etc/hugevm/hugevm.conf"
LEDGERS = f"{STATE}/ledger.json", f"{STATE}/ledger.copy.json"
BROKEN = "[performance]\nthis is no key\n"
NEED = 32  # pages of 2 MiB of a VM with 64 MiB
VM_START_S = 60  # libvirtd may look at QEMU anew first
GIGANTIC = "<page size='1' unit='G'/>"


class Host:
    """The installed host, with its libvirtd; one for all cases of a program."""

    def __init__(self):
        os.makedirs(os.path.dirname(CONF), exist_ok=True)
        self.module, = (glob.glob("/usr/lib*/hugevm/1/hugevm.so")
                        + glob.glob("/usr/lib*/*/hugevm/1/hugevm.so"))
        self.syslog = Syslog()
        self.libvirtd = Libvirtd()
        self.virsh = self.libvirtd.virsh

    def close(self):
        self.libvirtd.stop()
        self.syslog.__exit__()

    def conf(self, text=DYNAMIC):
        write(CONF, text)

    def create(self, vm, status=None):
        return self.virsh("create", vm.path, status=status, timeout=VM_START_S)

    def start(self, vm):
        """Starts a VM; the pid of its QEMU."""
        self.create(vm, status=0)
        check(vm.qemu(), "virsh create succeeds, but there is no QEMU")
        return vm.qemu()

    def refused(self, vm, *parts):
        """The start is refused by hugevm, with all parts in one line; that line."""
        said = self.create(vm, status=1).stderr
        _, mark, ours = said.rpartition("unexpected exit status 1: ")
        check(mark, f"it is not the hook that refuses: {said!r}")
        one_line(ours, *parts)
        same(vm.qemu(), 0, "QEMU of a refused VM")
        return ours

    def fails(self, vm, *parts):
        """The start fails, and it is not hugevm that says so."""
        said = self.create(vm, status=1).stderr
        harness.holds(said, *parts)
        check("hugevm:" not in said, f"hugevm has a part in it: {said}")

    def has(self, vm):
        return vm.uuid in self.virsh("list", "--uuid", status=0).stdout

    def wait_gone(self, vm):
        """Until libvirt is done with a VM that has ended, its hooks included."""
        until(lambda: not self.has(vm), "libvirt to see the end of the VM", 30, 0.1)

    def kill(self, vm):
        """kill -9 of QEMU."""
        check(vm.qemu(), "there is no QEMU to kill")
        end_process(vm.qemu())
        self.wait_gone(vm)

    def destroy(self, vm):
        self.virsh("destroy", vm.uuid, status=0)

    def tidy(self, bench):
        if self.libvirtd.process is None or self.libvirtd.process.poll() is not None:
            self.libvirtd.start()
        for vm in bench.vms:
            for pid in harness.processes_of(vm.uuid):
                end_process(pid)
        until(lambda: not self.virsh("list", "--uuid", status=0).stdout.strip(), "the VMs' end",
              30, 0.1)


_host = None


def _the_host():
    global _host
    if _host is None:
        _host = Host()
    return _host


def with_host(case):
    """Makes a case of the harness of a function that takes a bench and a host."""
    @functools.wraps(case)
    def run(bench):
        host = _the_host()
        host.conf()
        try:
            case(bench, host)
        finally:
            host.tidy(bench)
    return run


def run(cases):
    """main() on an installed host; the host's build is beside hugevmctl's."""
    build = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[1])))
    try:
        enter(f"{build}/host")
    except Unusable as error:
        text = "\n# ".join(str(error).splitlines())
        print(f"1..1\n# {text}\nnot ok 1 - the machine can be made an installed host")
        return 1
    try:
        return harness.main([with_host(case) for case in cases])
    finally:
        if _host is not None:
            _host.close()


# --- VMs ----------------------------------------------------------------------------------------


def huge(bench, memory_mib=64, page="", backing="", inside="", **options):
    """A VM with <hugepages>."""
    inside += f"<memoryBacking><hugepages>{page}</hugepages>{backing}</memoryBacking>"
    return bench.vm(memory_mib=memory_mib, inside=inside, **options)


def rename(vm, name):
    vm.xml = vm.xml.replace(f"<name>{vm.name}</name>", f"<name>{escape(name)}</name>")
    vm.name = name
    write(vm.path, vm.xml)
    return vm


def property_of(value, own=True):
    """Metadata with the VM property hugepages, in hugevm's namespace or oVirt's; value: XML."""
    if own:
        return ("<metadata><h:vm xmlns:h='urn:hugevm:vm:1'>"
                f"<h:hugepages>{value}</h:hugepages></h:vm></metadata>")
    return ("<metadata><o:vm xmlns:o='http://ovirt.org/vm/1.0'><o:custom>"
            f"<o:hugepages>{value}</o:hugepages></o:custom></o:vm></metadata>")


# --- what was said, what is recorded ------------------------------------------------------------


def one_line(text, *parts):
    """Exactly one line of hugevm's, with all parts and nothing that moves a terminal's cursor."""
    check(text.startswith("hugevm: "), f"hugevm does not say why: {text!r}")
    line = text.rstrip("\n")
    check(line.isprintable(), f"more than one line, or control characters: {text!r}")
    harness.holds(line, *parts)


def recorded():
    """The claims as they stand: hugevmctl as root would first set right what is not."""
    try:
        return json.loads(read(LEDGERS[0]))["claims"]
    except FileNotFoundError:
        return []


def pages_now(kib=M2):
    return harness.total(kib), harness.free(kib)


@contextlib.contextmanager
def kept(host, vm):
    """Whatever the case defines is undefined after it."""
    try:
        yield
    finally:
        host.virsh("destroy", vm.uuid)
        host.virsh("undefine", vm.uuid)


@contextlib.contextmanager
def replaced(path, content=None, mode=None):
    """The file has another content for the time, or is not there."""
    kept = tempfile.mkdtemp(dir=SCRATCH)
    shutil.move(path, kept)
    try:
        if content is not None:
            write(path, content)
            os.chmod(path, mode or 0o644)
        yield
    finally:
        if os.path.lexists(path):
            os.unlink(path)
        shutil.move(f"{kept}/{os.path.basename(path)}", path)


@contextlib.contextmanager
def script(path, text):
    """A program of /bin/sh for the time."""
    write(path, f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)
    try:
        yield
    finally:
        os.unlink(path)


def call_hook(*arguments, text="", prefix=(), path=HOOK):
    """The hook as libvirt calls it: (exit status, stderr); stdout must always be empty."""
    done = subprocess.run([*prefix, path, *arguments], capture_output=True, check=False, timeout=30,
                          input=text if isinstance(text, bytes) else text.encode())
    same(done.stdout, b"", f"standard output of the hook with {arguments}")
    return done.returncode, done.stderr.decode(errors="surrogateescape")


def silent(*arguments, **options):
    same(call_hook(*arguments, **options), (0, ""), f"status and stderr of the hook, {arguments}")
