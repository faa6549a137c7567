#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that keeps the memory of VMs in files: real VMs on a tmpfs and on an ext4, by `run` and
by libvirtd.

usage: test-file-backed.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys

import harness
from harness import check, end_process, holds, pools, read, same, until, write
from libvirt_host import CONF, VM_START_S, huge, kept, one_line, recorded, run

DIRECTORY = "/run/vm ram"  # of the namespace that all of this is in
IMAGE = f"{harness.STATE}-e2e.ext4"
ROOM_MIB = 320
CAPACITY_MIB = 256
VM_MIB = 96
ELEMENTS = "<source type='file'/>", "<access mode='shared'/>", "<allocation mode='immediate'/>"
FILES = f"[hugevm]\nfile_backed_memory = {CAPACITY_MIB}\n"


def mount(*words):
    subprocess.run(["mount", *words, DIRECTORY], check=True)


@contextlib.contextmanager
def mounted(kind):
    """A file system of that kind on the directory, which libvirtd looks for when it starts."""
    os.makedirs(DIRECTORY, exist_ok=True)
    if kind == "ext4":
        with open(IMAGE, "wb") as image:
            image.truncate(ROOM_MIB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", IMAGE], check=True)
        mount("-o", "loop", IMAGE)
    else:
        mount("-t", "tmpfs", "-o", f"size={ROOM_MIB}M,mode=755", "none")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", DIRECTORY], check=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(IMAGE)


def on(kind):
    """A case on a host that has its VMs' files on that kind of file system."""
    def wrap(case):
        @functools.wraps(case)
        def wrapped(bench, host):
            qemu_conf = "/etc/libvirt/qemu.conf"
            before = read(qemu_conf)
            with mounted(kind):
                write(qemu_conf, f'{before}memory_backing_dir = "{DIRECTORY}"\n')
                host.conf(FILES)
                host.libvirtd.restart()
                try:
                    case(bench, host)
                    until(lambda: used_mib() < 1, "an empty file system", 5)
                    same(recorded(), [], "claims at the end")
                finally:
                    host.conf()
                    host.tidy(bench)
                    write(qemu_conf, before)
            host.libvirtd.restart()
        return wrapped
    return wrap


def used_mib():
    fs = os.statvfs(DIRECTORY)
    return (fs.f_blocks - fs.f_bfree) * fs.f_frsize >> 20


def claimed():
    """KiB of files per VM, as the ledger has them."""
    return {claim["name"]: claim.get("file_kib") for claim in recorded()}


def files_of(qemu):
    """What QEMU maps below the directory: (MiB, how)."""
    mib, modes = 0, set()
    for line in read(f"/proc/{qemu}/maps").splitlines():
        if f"{DIRECTORY}/" in line:
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            mib += end - begin >> 20
            modes.add(line.split()[1])
    return mib, modes


def discards(qemu):
    return '"discard-data":true' in " ".join(harness.command_line(qemu))


def is_in_files(vm, mib=VM_MIB):
    """The VM's QEMU; its memory is there, shared, allocated, and claimed."""
    qemu = vm.qemu()
    same(files_of(qemu), (mib, {"rw-s"}), "what QEMU maps of files")
    check(used_mib() >= mib, f"only {used_mib()} MiB are allocated in the file system")
    listed = subprocess.run(["find", DIRECTORY, "-type", "f", "-size", f"{mib}M"], text=True,
                            capture_output=True, check=True).stdout
    check(listed, "there is no file of the VM's size in the directory")
    same(claimed()[vm.name], mib << 10, "KiB claimed")
    return qemu


def run_up(bench, vm, *arguments):
    return bench.run_until_up(vm, *arguments, conf=CONF, hugepages=None)


# --- run ----------------------------------------------------------------------------------------


def life_by_run(bench):
    before, vm, second = pools(), bench.vm(memory_mib=VM_MIB), bench.vm(memory_mib=VM_MIB * 2)
    process = run_up(bench, vm)
    check(discards(is_in_files(vm)), "QEMU was not told to discard")
    same(bench.ctl("audit", status=0).stdout, "nothing found\n", "audit")
    holds(bench.ctl("drain", status=1).stderr, f"has {VM_MIB} MiB in files of '{DIRECTORY}'")
    room = bench.json("status", status=0)["file_backed"]
    same((room["directory"], room["capacity_kib"] >> 10, room["used_kib"] >> 10,
          room["available_kib"] >> 10, room["unallocated_kib"]),
         (DIRECTORY, CAPACITY_MIB, VM_MIB, CAPACITY_MIB - VM_MIB, 0), "status")
    said = bench.ctl("--conf", CONF, "run", second.path, status=1).stderr
    holds(said, f"VM '{second.name}' wants {VM_MIB * 2} MiB in files of {DIRECTORY}",
          f"{CAPACITY_MIB - VM_MIB} MiB available (file_backed_memory is {CAPACITY_MIB} MiB, "
          f"{VM_MIB} MiB claimed; VMs: '{vm.name}' ({VM_MIB} MiB))")
    bench.end(process, signal.SIGTERM)
    until(lambda: used_mib() < 1, "the end of the files", 5)
    same((recorded(), pools()), ([], before), "claims and pools")


@on("tmpfs")
def run_on_tmpfs(bench, _host):
    """a VM by run has its memory in files of a tmpfs, and one too many is refused"""
    life_by_run(bench)


@on("ext4")
def run_on_ext4(bench, _host):
    """a VM by run has its memory in files of an ext4, and one too many is refused"""
    life_by_run(bench)


@on("ext4")
def killed(bench, _host):
    """a QEMU and a run that are killed leave neither claim nor file"""
    vm = bench.vm(memory_mib=VM_MIB)
    process = run_up(bench, vm)
    end_process(is_in_files(vm))
    bench.end(process)
    same(recorded(), [], "claims after QEMU's end")
    process = run_up(bench, vm)
    qemu = is_in_files(vm)
    bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
    same(claimed(), {vm.name: VM_MIB << 10}, "claims while QEMU lives")
    end_process(qemu)
    until(lambda: not harness.is_alive(qemu), "QEMU's end")
    bench.ctl("--conf", CONF, "reconcile", status=0)
    subprocess.run(["find", DIRECTORY, "-type", "f", "-delete"], check=True)  # libvirt's part


@on("ext4")
def full_file_system(bench, _host):
    """a VM is refused where the file system is full, whatever the setting allows"""
    vm, filler = bench.vm(memory_mib=VM_MIB), f"{DIRECTORY}/filler"
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, (ROOM_MIB - 80) << 20)
    try:
        said = bench.ctl("--conf", CONF, "run", vm.path, status=1).stderr
        holds(said, f"VM '{vm.name}' wants {VM_MIB} MiB in files of {DIRECTORY}, whose file system",
              "is too full", "what to do: remove what else is in the file system")
        same(vm.qemu(), 0, "QEMU")
    finally:
        os.unlink(filler)


@on("tmpfs")
def several_at_once(bench, _host):
    """of three VMs that start at once two get the room that there is for two"""
    runs = [bench.run(vm, conf=CONF, hugepages=None)
            for vm in (bench.vm(memory_mib=VM_MIB) for _ in range(3))]
    until(lambda: [run.poll() for run in runs].count(1) == 1, "the end of one of them", 20)
    until(lambda: used_mib() >= 2 * VM_MIB, "the memory of two", 20)
    same(sorted(claimed().values()), [VM_MIB << 10] * 2, "KiB claimed")
    for process in runs:
        if process.poll() is None:
            bench.end(process, signal.SIGTERM)
        else:
            holds(process.communicate()[1], f"{CAPACITY_MIB - 2 * VM_MIB} MiB available")


@on("ext4")
def beside_one_that_allocates(bench, _host):
    """what a QEMU has allocated so far is not missed twice in the file system"""
    large, vm = bench.vm(memory_mib=CAPACITY_MIB - VM_MIB), bench.vm(memory_mib=VM_MIB)
    process, stopped = bench.run(large, conf=CONF, hugepages=None), 0
    until(lambda: used_mib() > ROOM_MIB - CAPACITY_MIB + 10, "QEMU to allocate", 20, 0.001)
    try:
        stopped = large.qemu()
        os.kill(stopped, signal.SIGSTOP)
        bench.ctl("--conf", CONF, "plan", vm.path, status=0)
    finally:
        os.kill(stopped, signal.SIGCONT)
    same(process.stdout.readline(), f"running: '{large.name}'\n", "what run says")
    bench.end(process, signal.SIGTERM)


@on("tmpfs")
def huge_pages(bench, host):
    """a VM with huge pages is refused by run and by libvirt's hook, and takes none"""
    before, vm = pools(), bench.vm(memory_mib=VM_MIB)
    host.conf(harness.DYNAMIC + FILES)
    why = "asks for huge pages, but this host keeps the memory of all VMs in files"
    said = bench.ctl("--conf", CONF, "run", vm.path, "-p", "hugepages=2048", status=1).stderr
    holds(said, f"VM '{vm.name}' {why}", "what to do: start it on a host without")
    vm = huge(bench)
    said = bench.ctl("--conf", CONF, "run", vm.path, status=1).stderr
    holds(said, f"VM '{vm.name}' {why}")
    host.refused(vm, f"VM '{vm.name}' {why}")
    same(pools(), before, "pools")


@on("tmpfs")
def directory_that_will_not_do(bench, host):
    """a directory that is missing, or of a file system too small, refuses a VM"""
    vm = bench.vm(memory_mib=VM_MIB)
    host.conf("[hugevm]\nfile_backed_memory = 65536\n")
    said = bench.ctl("--conf", CONF, "run", vm.path, status=1).stderr
    found = bench.ctl("doctor")
    holds(found.stdout, "problem: file-backed: file_backed_memory is 64 GiB, but")
    holds(said, f"file_backed_memory is 64 GiB, but the file system of {DIRECTORY} has "
          f"{ROOM_MIB} MiB only", f"set file_backed_memory to at most {ROOM_MIB}")
    host.conf(f"{FILES}memory_backing_dir = /run/nothing\n")
    said = bench.ctl("--conf", CONF, "run", vm.path, status=1).stderr
    holds(said, "their directory /run/nothing does not exist",
          "what to do: mount a file system for them on /run/nothing")


# --- libvirtd -----------------------------------------------------------------------------------


def dump(host, vm):
    return host.virsh("dumpxml", "--inactive", vm.uuid, status=0).stdout


def start(host, vm):
    host.virsh("start", vm.uuid, status=0, timeout=VM_START_S)
    return vm.qemu()


@on("ext4")
def defined(bench, host):
    """a VM that libvirt keeps is started in files once define has written them into its XML"""
    vm, second = bench.vm(memory_mib=VM_MIB), bench.vm(memory_mib=VM_MIB * 2)
    with kept(host, vm), kept(host, second):
        host.virsh("define", vm.path, status=0)
        plain = dump(host, vm)
        said = bench.ctl("set", vm.uuid, "shared=auto", status=0)
        holds(said.stdout, "memory in files no -> source access allocation discard")
        holds(dump(host, vm), *ELEMENTS, "<discard/>")
        start(host, vm)
        check(discards(is_in_files(vm)), "QEMU was not told to discard")
        bench.ctl("define", second.path, status=0)
        said = host.virsh("start", second.uuid, status=1, timeout=VM_START_S).stderr
        one_line(said.rpartition("unexpected exit status 1: ")[2],
                 f"VM '{second.name}' wants {VM_MIB * 2} MiB", f"VMs: '{vm.name}' ({VM_MIB} MiB)")
        host.destroy(vm)
        same(recorded(), [], "claims")
        start(host, second)
        is_in_files(second, VM_MIB * 2)
        host.destroy(second)
        host.conf()
        bench.ctl("set", vm.uuid, "shared=auto", status=0)
        same(dump(host, vm), plain, "XML once the host has no such setting")
        host.conf(FILES)


@on("tmpfs")
def versions_that_nobody_said(bench, host):
    """without versions there is no discard, which is said, and QEMU is not told to"""
    vm = bench.vm(memory_mib=VM_MIB)
    done = bench.ctl("define", "--print", vm.path, status=0)
    holds(done.stderr, "<discard/> is not added", "nobody has said which versions start the VM")
    holds(done.stdout, *ELEMENTS)
    write(vm.path, done.stdout)
    host.start(vm)
    check(not discards(is_in_files(vm)), "QEMU was told to discard")
    host.destroy(vm)


@on("tmpfs")
def old_versions(bench, _host):
    """versions that are too old get no discard, and older ones are refused"""
    vm = bench.vm(memory_mib=VM_MIB)
    for libvirt, qemu, status, said in (
            ("4.3.0", "2.12.0", 0, "this is libvirt 4.3.0"), ("4.4.0", "2.9.1", 0, "QEMU 2.9.1"),
            ("3.10.0", "2.12.0", 1, "which libvirt 3.10.0 does not do"),
            ("9.0.0", "2.5.0", 1, "which QEMU 2.5.0 does not do"), ("4.4.0", "2.10.0", 0, "")):
        done = bench.ctl("plan", vm.path, "--libvirt-version", libvirt, "--qemu-version", qemu,
                         status=status)
        holds(done.stderr, said)
        if status == 0:
            same("<discard/> is not added" in done.stderr, said != "", "a word of discard")


@on("tmpfs")
def not_in_files(bench, host):
    """a VM that libvirt starts with other memory runs, is not counted, and syslog says so"""
    vm = bench.vm(memory_mib=VM_MIB)
    host.start(vm)
    same((recorded(), used_mib()), ([], 0), "claims and MiB used")
    check(host.syslog.messages(vm.uuid, "but the domain XML does not say so"), "no word in syslog")
    host.destroy(vm)


@on("tmpfs")
def broken_settings(bench, host):
    """settings that cannot be read stop neither a VM in files nor another one"""
    vm, other = bench.vm(memory_mib=VM_MIB), bench.vm(memory_mib=VM_MIB)
    write(vm.path, bench.ctl("define", "--print", vm.path, status=0).stdout)
    host.conf(f"{FILES}this is no key\n")
    host.start(vm)
    host.start(other)
    same(recorded(), [], "claims")
    host.destroy(vm)
    host.destroy(other)
    host.conf(FILES)


DIMM = ("<memory model='dimm'><target><size unit='MiB'>64</size><node>0</node></target>"
        "</memory>")


@on("tmpfs")
def plugged(bench, host):
    """a DIMM that is plugged into a VM in files is counted, and no longer once it is gone"""
    vm = bench.vm(memory_mib=VM_MIB, inside=(
        "  <maxMemory slots='4' unit='MiB'>512</maxMemory>\n  <cpu><numa><cell id='0' cpus='0' "
        f"memory='{VM_MIB}' unit='MiB'/></numa></cpu>\n  <features><acpi/></features>\n"))
    device = write(f"{bench.directory}/dimm.xml", DIMM)
    with kept(host, vm):
        bench.ctl("define", vm.path, status=0)
        start(host, vm)
        is_in_files(vm)
        host.virsh("attach-device", vm.uuid, device, status=0)
        bench.ctl("reconcile", status=0)
        same(claimed(), {vm.name: (VM_MIB + 64) << 10}, "KiB claimed")
        same(files_of(vm.qemu())[0], VM_MIB + 64, "MiB mapped")
        host.destroy(vm)


if __name__ == "__main__":
    sys.exit(run([
        run_on_tmpfs, run_on_ext4, killed, full_file_system, several_at_once,
        beside_one_that_allocates, huge_pages,
        directory_that_will_not_do, defined, versions_that_nobody_said, old_versions, not_in_files,
        broken_settings, plugged,
    ]))
