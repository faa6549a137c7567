#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hugevmctl audit finds on a real host that is not as it should be, and what it repairs.

usage: test-audit.py HUGEVMCTL HUGEVM.SO [WORD]

Each case makes one thing wrong for real; after the repair the pools are as they were.
"""

import contextlib
import ctypes
import glob
import os
import shutil
import signal
import subprocess
import sys

import harness
from harness import (M2, STATE, STATIC, check, end_process, holds, is_alive, pools, pools_become,
                     python, read, same, set_total, total, until)
from hugevm_host import Host as InProcessHost
from libvirt_host import HOOK, NEED, huge, recorded, replaced, run, script

SYSTEM = ("--connect", "qemu:///system")
IPC_CREAT, IPC_RMID, SHM_HUGETLB = 0o1000, 0, 0o4000
GUARD_KEY = 0x487 << 20 | 11 << 15  # pages of 2^11 KiB

HOLDER = """import mmap, os, sys
size = 64 << 20
memory = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), size)
memory[0]
print("mapped", flush=True)
sys.stdin.read()
"""
USER = """import mmap, sys
memory = mmap.mmap(-1, 4 << 21, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x40000)
memory[0] = 1
print("mapped", flush=True)
sys.stdin.read()
"""

libc = ctypes.CDLL(None, use_errno=True)


# --- asking ---------------------------------------------------------------------------------


def audit(bench, *arguments, status=0):
    return bench.json("audit", *arguments, conf=bench.conf(), status=status)


def kinds(findings):
    return [finding["kind"] for finding in findings]


def finds(bench, *expected, status=1, arguments=()):
    """The audit finds exactly these kinds, and changes nothing; the findings."""
    before, claims = pools(), recorded()
    findings = audit(bench, *arguments, status=status)["findings"]
    same(kinds(findings), list(expected), f"findings {findings}")
    same((pools(), recorded()), (before, claims), "pools and claims after an audit")
    return findings


def repairs(bench, *remaining, status=0, arguments=()):
    """After a repair these kinds remain."""
    report = audit(bench, "--repair", *arguments, status=status)
    same(kinds(report["remaining"]), list(remaining), f"what remains: {report['remaining']}")


def nothing_left(bench, before):
    pools_become(before)
    same(recorded(), [], "claims")
    same(bench.ctl("audit", conf=bench.conf(), status=0).stdout, "nothing found\n", "audit")


# --- making it wrong --------------------------------------------------------------------------


def make_guard(generation, pages):
    """A segment as hugevm makes them."""
    segment = libc.shmget(GUARD_KEY | generation, ctypes.c_size_t(pages << 21),
                          IPC_CREAT | SHM_HUGETLB | 21 << 26 | 0o600)
    check(segment >= 0, f"shmget: {os.strerror(ctypes.get_errno())}")
    return segment


@contextlib.contextmanager
def segments_removed():
    """A case that fails leaves none of them behind."""
    try:
        yield
    finally:
        for line in read("/proc/sysvipc/shm").splitlines()[1:]:
            key, segment = line.split()[:2]
            if int(key) >> 20 == 0x487:
                libc.shmctl(int(segment), IPC_RMID, None)


def killed_host(bench, vm):
    """A host program that claims pages and is killed before it starts the VM."""
    conf = bench.conf()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(Exception):
            InProcessHost(harness.module, [conf]).before_vm_start(vm.xml, {"hugepages": "2048"})
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    claim, = (claim for claim in recorded() if claim["uuid"] == vm.uuid)
    return pid, claim["state"]


def has_ledger():
    return os.path.exists(f"{STATE}/ledger.json")


# --- cases ------------------------------------------------------------------------------------


def sound_host(bench, host):
    """a host where all is well has no findings, with a VM, asked with libvirt and without"""
    before, vm = pools(), huge(bench)
    nothing_left(bench, before)
    finds(bench, status=0, arguments=SYSTEM)
    host.start(vm)
    finds(bench, status=0)
    finds(bench, status=0, arguments=SYSTEM)
    host.destroy(vm)
    nothing_left(bench, before)
    finds(bench, status=0, arguments=SYSTEM)


def stray_guard(bench, _host):
    """a segment that no claim is entitled to is named and removed"""
    bench.ctl("reconcile", conf=bench.conf(), status=0)
    set_total(8)
    before = pools()
    with segments_removed():
        segment = make_guard(77, 5)
        stray = finds(bench, *([] if has_ledger() else ["ledger-missing"]), "stray-guard")[-1]
        holds(stray["text"], f"segment {segment}", "5 pages of 2 MiB")
        repairs(bench)
        nothing_left(bench, before)


def host_killed_with_a_claim(bench, _host):
    """the claim of a host that was killed before it started its VM goes, with guard and pages"""
    before = pools()
    with segments_removed():
        vm = bench.vm(memory_mib=64)
        pid, state = killed_host(bench, vm)
        same(state, "guarded", "its claim")
        same(total(), NEED, "total")
        claim, = finds(bench, "dead-claim")
        same(claim["uuid"], vm.uuid, "whose")
        holds(claim["text"], vm.name, f"process {pid}", f"{NEED} pages of 2 MiB")
        repairs(bench)
        nothing_left(bench, before)


def ledger_removed(bench, _host):
    """guards without a ledger are found and removed; pages that it forgot stay, as it says"""
    before = pools()
    with segments_removed():
        killed_host(bench, bench.vm(memory_mib=64))
        for path in glob.glob(f"{STATE}/ledger*json"):
            os.unlink(path)
        missing, _ = finds(bench, "ledger-missing", "stray-guard")
        holds(missing["repair"], "stay in the pools")
        repairs(bench)
        same((total(), harness.free()), (NEED, NEED), "total and free")
        set_total(0)
        nothing_left(bench, before)


def stray_mount(bench, _host):
    """a launch mount that no claim is entitled to is named and unmounted"""
    bench.ctl("reconcile", conf=bench.conf(), status=0)
    set_total(8)
    before, vm = pools(), bench.vm()
    place = f"{bench.directory}/with space"
    os.mkdir(place)
    subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M,min_size=4M",
                    f"hugevm:{vm.uuid}:5", place], check=True)
    try:
        mount = finds(bench, *([] if has_ledger() else ["ledger-missing"]), "stray-mount")[-1]
        holds(mount["text"], place)
        same(mount["uuid"], vm.uuid, "whose")
        repairs(bench)
        check(not os.path.ismount(place), "it is still mounted")
        nothing_left(bench, before)
    finally:
        if os.path.ismount(place):
            subprocess.run(["umount", "-l", place], check=True)


def killed_run(bench, _host):
    """the VM of a run that was killed is named, goes on until a repair, and is ended by that"""
    before, vm = pools(), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm)
    left = vm.qemu()
    bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
    found, = finds(bench, "left-vm")
    holds(found["text"], f"process {left} ")
    same(found["uuid"], vm.uuid, "whose")
    check(is_alive(left), "the audit has ended it")
    repairs(bench)
    check(not is_alive(left), "the repair has not ended it")
    nothing_left(bench, before)


def vm_from_outside(bench, host):
    """a VM that libvirt starts without hugevm is a note, and stays as it is"""
    set_total(NEED)
    before, vm = pools(), huge(bench)
    with replaced(HOOK):
        qemu = host.start(vm)
        note, = finds(bench, "outside-vm", status=0)
        same((note["uuid"], note["level"]), (vm.uuid, "note"), "whose, and what")
        holds(note["text"], vm.name, f"process {qemu} ", "64 MiB")
        note, = finds(bench, "outside-vm", status=0, arguments=SYSTEM)
        holds(note["text"], "libvirt runs it")
        repairs(bench, "outside-vm", arguments=SYSTEM)
        same(vm.qemu(), qemu, "its QEMU after a repair")
        host.destroy(vm)
    nothing_left(bench, before)


def vm_of_another_libvirt(bench, _host):
    """a VM with a claim that runs elsewhere than in the libvirt asked is a note, and stays"""
    before, vm = pools(), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm)
    note, = finds(bench, "unknown-to-libvirt", status=0, arguments=SYSTEM)
    holds(note["text"], vm.uuid, f"process {vm.qemu()}")
    repairs(bench, "unknown-to-libvirt", arguments=SYSTEM)
    same(len(recorded()), 1, "claims after a repair")
    bench.end(process, signal.SIGTERM)
    nothing_left(bench, before)


def other_user_of_pages(bench, _host):
    """another process with huge pages is a note that names it"""
    set_total(8)
    before = pools()
    with python(USER) as process:
        note, = finds(bench, "foreign-use", status=0)
        holds(note["text"], f"process {process.pid} ", "2 MiB")
    nothing_left(bench, before)


def memory_of(qemu):
    """A path to the file that QEMU's memory is in, for whoever wants to map it."""
    for path in glob.glob(f"/proc/{qemu}/fd/*"):
        with contextlib.suppress(OSError):
            if "hugepages" in os.readlink(path):
                return path
    raise harness.Failure("QEMU has no file of huge pages")


def held_pages(bench, host):
    """memory of a VM that is gone, but still mapped by another process, is found with its name"""
    before = pools()
    vm = huge(bench, backing="<access mode='shared'/>")
    qemu = host.start(vm)
    with python(HOLDER, memory_of(qemu)) as holder:
        host.kill(vm)
        held, *others = finds(bench, "held-pages", "foreign-use")
        same(held["uuid"], vm.uuid, "whose")
        holds(held["text"], f"process {holder.pid} ")
        same(len(others), 1, "notes")
        repairs(bench, "held-pages", "foreign-use", status=1)
        same(total(), NEED, "total while it is mapped")
    until(lambda: harness.free() == total(), "the other process's end")
    repairs(bench)
    nothing_left(bench, before)


def agent_that_missed_the_end(bench, _host):
    """a claim whose agent lives and says nothing goes only if libvirt says that the VM is none"""
    before, vm = pools(), bench.vm(memory_mib=64)
    agent = InProcessHost(harness.module, [bench.conf()])
    result = agent.before_vm_start(vm.xml, {"hugepages": "2048"})
    agent.vm_launching(result.uuid, result.generation)
    finds(bench, status=0, arguments=SYSTEM)
    with harness.unseen_qemu(NEED):
        agent.after_vm_start(result.uuid, result.generation)
    claim, pages = finds(bench, "ended-claim", "give-back-due")
    holds(claim["hint"], f"release {vm.uuid}")
    holds(pages["text"], f"{NEED} pages of 2 MiB on node 0")
    repairs(bench, "ended-claim", status=1)
    claim, = finds(bench, "ended-claim", arguments=SYSTEM)
    holds(claim["repair"], "libvirt does not run")
    repairs(bench, arguments=SYSTEM)
    agent.close()
    nothing_left(bench, before)


def claim_of_a_start_to_come(bench, _host):
    """a repair with libvirt's list leaves the claim of a VM that another host is about to start"""
    before, vm = pools(), bench.vm(memory_mib=64)
    agent = InProcessHost(harness.module, [bench.conf()])
    result = agent.before_vm_start(vm.xml, {"hugepages": "2048"})
    repairs(bench, arguments=SYSTEM)
    same([claim["uuid"] for claim in recorded()], [vm.uuid], "claims")
    agent.vm_start_failed(result.uuid, result.generation)
    agent.close()
    nothing_left(bench, before)


def claim_that_libvirt_forgot(bench, host):
    """a claim of libvirt's hook that never heard of the end goes with a repair by libvirt's list"""
    before, vm = pools(), huge(bench)
    kept = f"{bench.directory}/kept"
    breaks = f'[ "$2" = prepare ] || exit 0\nmv {HOOK} {kept}\necho broken >&2\nexit 1'
    with script(f"{os.path.dirname(HOOK)}/60-breaks", breaks):
        try:
            host.fails(vm, "broken")
        finally:
            shutil.move(kept, HOOK)
    same([claim["state"] for claim in recorded()], ["guarded"], "claims")
    finds(bench, status=0)  # libvirtd lives, and may be about to start it
    claim, = finds(bench, "ended-claim", arguments=SYSTEM)
    same(claim["uuid"], vm.uuid, "whose")
    repairs(bench, arguments=SYSTEM)
    nothing_left(bench, before)


def repair_while_libvirt_starts(bench, host):
    """a repair while libvirt starts a VM leaves its claim, and the VM starts"""
    before, vm = pools(), huge(bench)
    with script(f"{os.path.dirname(HOOK)}/60-waits", '[ "$2" != prepare ] || sleep 1'):
        with subprocess.Popen(["virsh", "-q", "create", vm.path], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as start:
            until(recorded, "a claim")
            repairs(bench, arguments=SYSTEM)
            _, said = start.communicate()
        same((start.returncode, said), (0, ""), "the start's end")
    same([claim["uuid"] for claim in recorded()], [vm.uuid], "claims")
    host.destroy(vm)
    nothing_left(bench, before)


def pool_resized(bench, _host):
    """a pool that somebody else resizes under a VM is a note, and his pages stay his"""
    vm = bench.vm(memory_mib=64)
    process = bench.run_until_up(vm)
    set_total(NEED + 3)
    drift, = finds(bench, "drift", status=0)
    holds(drift["text"], f"has {NEED + 3} pages of 2 MiB where hugevm left {NEED}")
    audit(bench, "--repair")
    bench.end(process, signal.SIGTERM)
    until(lambda: total() == 3, "the VM's pages")
    set_total(0)


def qemu_killed_with_a_dead_owner(bench, host):
    """a VM that ends while libvirtd is dead is found, and its pages go back"""
    before, vm = pools(), huge(bench)
    qemu = host.start(vm)
    host.libvirtd.kill()
    end_process(qemu)
    until(lambda: not vm.qemu() and pools() == before, "QEMU's end")
    claim, = finds(bench, "dead-claim")  # the kernel has taken the pages already
    holds(claim["text"], f"process {qemu}, has ended")
    repairs(bench)
    nothing_left(bench, before)


def service_with_few_rights(bench, host):
    """the service's capabilities are enough for all that reconcile has to do"""
    del host
    before, vm, stale = pools(), bench.vm(memory_mib=64), bench.vm(memory_mib=32)
    unit = (glob.glob("/usr/lib/systemd/system/hugevm-reconcile.service")
            + glob.glob("/lib/systemd/system/hugevm-reconcile.service"))[0]
    rights = next(line for line in read(unit).splitlines()
                  if line.startswith("CapabilityBoundingSet="))
    bounding = "-all," + ",".join(f"+{word.removeprefix('CAP_').lower()}"
                                  for word in rights.partition("=")[2].split())
    with segments_removed():
        process = bench.run_until_up(vm)
        bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
        killed_host(bench, stale)
        place = f"{bench.directory}/closed"
        os.mkdir(place, 0o700)
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M,uid=12345,mode=0700",
                        f"hugevm:{vm.uuid}:99", place], check=True)
        found = kinds(audit(bench, status=1)["findings"])
        same(found, ["left-vm", "dead-claim", "stray-mount"], "findings")
        subprocess.run(["setpriv", "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all",
                        f"--bounding-set={bounding}", harness.ctl, "reconcile"], check=True,
                       stderr=subprocess.DEVNULL)
        nothing_left(bench, before)


def as_nobody(bench, host):
    """without root it reports what it sees, and cannot repair"""
    before, vm = pools(), huge(bench)
    qemu = host.start(vm)
    host.libvirtd.kill()
    end_process(qemu)
    until(lambda: not vm.qemu() and harness.free() == total(), "QEMU's end")
    os.chmod(bench.directory, 0o755)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    done = bench.ctl("audit", conf=bench.conf(STATIC), status=1, **nobody)
    holds(done.stdout, "error: dead-claim", vm.uuid)
    holds(done.stderr, "without root")
    done = bench.ctl("audit", "--repair", conf=bench.conf(STATIC), status=3, **nobody)
    holds(done.stdout, "error: dead-claim", "after the repair:")
    holds(done.stderr, "run it as root")
    repairs(bench)
    nothing_left(bench, before)


def libvirt_that_is_not_there(bench, host):
    """a libvirt that does not answer is a system error, and nothing is repaired"""
    before, vm = pools(), bench.vm(memory_mib=64)
    host.libvirtd.kill()
    with segments_removed():
        killed_host(bench, vm)
        done = bench.ctl("audit", "--repair", *SYSTEM, conf=bench.conf(), status=3)
        holds(done.stderr, "cannot connect to libvirt")
        same((done.stdout, len(recorded())), ("", 1), "what it prints, and claims")
        repairs(bench)
        nothing_left(bench, before)


if __name__ == "__main__":
    sys.exit(run([
        sound_host, stray_guard, host_killed_with_a_claim, ledger_removed, stray_mount, killed_run,
        vm_from_outside, vm_of_another_libvirt, other_user_of_pages, held_pages,
        agent_that_missed_the_end, claim_of_a_start_to_come, claim_that_libvirt_forgot,
        repair_while_libvirt_starts, pool_resized, qemu_killed_with_a_dead_owner,
        service_with_few_rights, as_nobody, libvirt_that_is_not_there,
    ]))
