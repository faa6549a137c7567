#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's hook where something is broken, switched off, slow or hostile.

usage: test-libvirt-faults.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time

import harness
from harness import (DYNAMIC, M2, STATE, STATIC, check, holds, is_alive, knob, pools, pools_become,
                     read, same, set_total, total, until, write)
from installed_host import HOOKS
from libvirt_host import (BROKEN, CONF, HOOK, LEDGERS, NEED, call_hook, huge, one_line, pages_now,
                          property_of, recorded, rename, replaced, run, script, silent)

GARBAGE = "\x7fELF this is no module\n"
MENTIONS = ("<title>hugepages</title><description>pagesize, memoryBacking/hugepages</description>"
            "<metadata><x:vm xmlns:x='urn:of-somebody'><x:pagesize>2048</x:pagesize>"
            "<x:note>hugepages=2048</x:note></x:vm></metadata>")
OFF = DYNAMIC + "[hugevm]\nenabled = false\n"


def nothing_taken(before):
    same((pools(), recorded()), (before, []), "pools and claims")


# --- broken installations ---------------------------------------------------------------------


@contextlib.contextmanager
def unsafe_directory():
    os.makedirs(STATE, exist_ok=True)
    os.chmod(STATE, 0o777)
    try:
        yield
    finally:
        os.chmod(STATE, 0o755)


@contextlib.contextmanager
def damaged_ledger():
    os.makedirs(STATE, exist_ok=True)
    for path in LEDGERS:
        write(path, "{{{ no ledger")
    try:
        yield
    finally:
        for path in LEDGERS:
            os.unlink(path)


def broken_ways(host):
    """What may be wrong, and what a VM with huge pages is then told; None: it starts."""
    return [(lambda: replaced(CONF, BROKEN), (f"{CONF}:2: 'this is no key'",)),
            (unsafe_directory, (STATE, "what to do:", "writable by root alone")),
            (lambda: replaced(host.module), ("cannot load", host.module)),
            (lambda: replaced(host.module, GARBAGE), ("cannot load", host.module)),
            (damaged_ledger, None)]


def mentioning(bench):
    """A VM that has nothing to do with huge pages, but speaks of them wherever it can."""
    vm = bench.vm(memory_mib=64, inside=MENTIONS)
    return rename(vm, f"hugepages pagesize {vm.name}")


def without_hugepages(bench, host):
    """a VM without huge pages starts and ends whatever is wrong, also if it speaks of them"""
    before = pools()
    for way, _ in broken_ways(host):
        with way():
            vm = mentioning(bench)
            host.start(vm)
            host.kill(vm)
    with contextlib.ExitStack() as all_of_them:
        for way in (lambda: replaced(CONF, BROKEN), damaged_ledger, unsafe_directory,
                    lambda: replaced(host.module, GARBAGE)):
            all_of_them.enter_context(way())
        for vm in (bench.vm(memory_mib=64), mentioning(bench)):
            host.start(vm)
            host.destroy(vm)
            same(host.syslog.messages(vm.uuid), [], "what hugevm says of it")
    same(pools(), before, "pools")


def refused_with_reason(bench, host):
    """a VM with huge pages is refused with the file and line, or whatever else is wrong"""
    before = pools()
    for way, parts in broken_ways(host):
        if parts is not None:
            with way():
                host.refused(huge(bench), *parts)
    nothing_taken(before)


def with_damaged_ledger(bench, host):
    """a damaged ledger is set aside with a warning in syslog, and a VM with huge pages starts"""
    before, vm = pools(), huge(bench)
    os.makedirs(STATE, exist_ok=True)
    for path in LEDGERS:
        write(path, "{{{ no ledger")
    host.start(vm)
    same((pages_now(), len(recorded())), ((NEED, 0), 1), "pages and claims while it runs")
    until(lambda: host.syslog.messages("hugevm", vm.uuid, "set aside as"), "the warning", 5)
    host.kill(vm)
    pools_become(before)
    nothing_taken(before)


def configuration_breaks(bench, host):
    """a VM survives libvirtd's restart with a broken configuration, and its pages come back"""
    before, vm = pools(), huge(bench)
    qemu = host.start(vm)
    with replaced(CONF, BROKEN):
        host.libvirtd.restart()
        # a libvirtd lists its VMs before it has reconnected to them
        until(lambda: host.virsh("qemu-monitor-command", vm.uuid, "--hmp",
                                 "info status").returncode == 0, "libvirt to reach its VM", 30, 0.1)
        check(is_alive(qemu), "the VM has died")
        same((pages_now(), len(recorded())), ((NEED, 0), 1), "pages and claims while it runs")
        host.destroy(vm)
        pools_become(before)
        nothing_taken(before)


def module_goes(bench, host):
    """a release without the module says so in syslog, and the VM's next start makes it good"""
    before, vm = pools(), huge(bench)
    host.start(vm)
    with replaced(host.module):
        host.kill(vm)
        until(lambda: host.syslog.messages(vm.uuid, "release", "cannot load"), "the line", 5)
        same((total(), len(recorded())), (0, 1), "pages and claims that were left: the kernel has taken the pages")
    host.start(vm)
    same((pages_now(), len(recorded())), ((NEED, 0), 1), "pages and claims of the next start")
    host.kill(vm)
    pools_become(before)
    nothing_taken(before)


# --- switched off -----------------------------------------------------------------------------


def switched_off(bench, host):
    """with enabled = false VMs start as if hugevm were not there, and a warning is in syslog"""
    host.conf(OFF)
    before, vm = pools(), huge(bench)
    host.fails(vm, "Cannot allocate memory")
    nothing_taken(before)
    until(lambda: host.syslog.messages("hugevm", vm.uuid, "switched off"), "the warning", 5)
    set_total(NEED)
    host.start(vm)
    same((pages_now(), recorded()), ((NEED, 0), []), "pages and claims while it runs")
    host.kill(vm)
    same((pages_now(), recorded()), ((NEED, NEED), []), "pages and claims afterwards")


def switched_off_meanwhile(bench, host):
    """a VM that was started before hugevm was switched off gives its pages back"""
    before, vm = pools(), huge(bench)
    host.start(vm)
    same(pages_now(), (NEED, 0), "total and free while it runs")
    host.conf(OFF)
    host.kill(vm)
    pools_become(before)
    nothing_taken(before)


# --- called directly --------------------------------------------------------------------------

REAL = (("prepare", "begin"), ("start", "begin"), ("started", "begin"), ("stopped", "end"),
        ("release", "end"))
OTHER = (("stopped", "begin"), ("migrate", "begin"), ("restore", "begin"), ("reconnect", "end"),
         ("attach", "begin"), ("migrate", "end"), ("restore", "end"), ("checkpoint", "begin"), ("save", "begin"), ("prepare", "end"), ("start", "end"),
         ("started", "end"), ("release", "begin"), ("release", ""), ("", "begin"), ("", ""),
         ("Prepare", "begin"), ("prepare ", "begin"), ("preparex", "begin"), ("-n", "--help"))
TOO_FEW = ((), ("name",), ("name", "prepare"), ("name", "release"), ("name", "migrate"),
           ("name", "reconnect"), ("--help",), ("--version",))
AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def other_calls(bench, host):
    """every other call does nothing and says nothing, also with a broken configuration"""
    vm = huge(bench)
    calls = [("name", *words, "-") for words in OTHER] + list(TOO_FEW)
    for claimed in (False, True):
        if claimed:
            silent(vm.name, "prepare", "begin", "-", text=vm.xml)
        before, said = (pools(), recorded()), host.syslog.messages("hugevm")
        same(len(before[1]), claimed, "claims")
        for text in (DYNAMIC, BROKEN):
            host.conf(text)
            for arguments in calls:
                silent(*arguments, text=vm.xml)
                same((pools(), recorded()), before, f"pools and claims after {arguments}")
        host.conf()
        same(host.syslog.messages("hugevm"), said, "messages in syslog")


def states_of_a_start(bench, _host):
    """the calls of a VM's life say nothing, and each does its part once"""
    before, vm = pools(), huge(bench)
    for operation, state in zip(REAL, ("guarded", "launching", "running")):
        for _ in range(2 if state != "guarded" else 1):
            with harness.unseen_qemu(NEED if state == "running" else 0):
                silent(vm.name, *operation, "-", text=vm.xml)
            same([claim["state"] for claim in recorded()], [state], f"claims after {operation}")
            same(total(), NEED, "total")
    for operation in REAL[3:] + REAL[3:]:
        silent(vm.name, *operation, "-", text=vm.xml)
        nothing_taken(before)
    for operation in REAL[1:3]:
        silent(vm.name, *operation, "-", text=vm.xml)
    nothing_taken(before)


def as_nobody(bench, _host):
    """for a user without root's rights every call succeeds, and nothing is taken or given back"""
    before, vm = pools(), huge(bench)
    for operation in REAL:
        silent(vm.name, *operation, "-", text=vm.xml, prefix=AS_NOBODY)
    nothing_taken(before)
    silent(vm.name, "prepare", "begin", "-", text=vm.xml)
    claims = recorded()
    same((total(), len(claims)), (NEED, 1), "total and claims of root's call")
    for operation in (*REAL, *OTHER, ("reconnect", "begin")):
        silent(vm.name, *operation, "-", text=vm.xml, prefix=AS_NOBODY)
    same((total(), recorded()), (NEED, claims), "total and claims afterwards")
    silent(vm.name, "release", "end", "-", text=vm.xml)
    nothing_taken(before)


def strange_input(bench, _host):
    """closed, empty, binary and huge standard input takes nothing; one line says why, if at all"""
    before, vm = pools(), huge(bench)
    binary = bytes(range(256)) * 40
    large = vm.xml.replace("</domain>", f"<!-- {'x' * (5 << 20)} --></domain>")
    closed = ("sh", "-c", 'exec "$@" <&-', "sh")
    for operation in REAL:
        silent(vm.name, *operation, "-", text=vm.xml, prefix=closed)
        for text in ("", "\n", binary, large.replace("hugepages", "x")):
            silent(vm.name, *operation, "-", text=text)
    for text, part in ((binary + b"hugepages", "XML"), (vm.xml.encode()[:-20], "XML"),
                       (large.encode(), "XML"), (vm.xml.encode() + b"\0", "XML")):
        status, said = call_hook(vm.name, "prepare", "begin", "-", text=text)
        same(status, 1, f"status with {text[-40:]!r} ({said})")
        one_line(said, part)
        for operation in REAL[1:]:
            silent(vm.name, *operation, "-", text=text)
    nothing_taken(before)


# --- filters and reconnect --------------------------------------------------------------------

ADAPT = f"{DYNAMIC}[hugevm]\nincoming_page_sizes = adapt\n"
LACKING = "<page size='16' unit='MiB'/>"
OFFERED = "<page size='2048' unit='KiB'/>"


def filtered(vm, operation, prefix=()):
    """Status, standard output and standard error of a call whose output libvirt reads."""
    done = subprocess.run([*prefix, HOOK, vm.name, operation, "begin", "-"], text=True, check=False,
                          capture_output=True, input=vm.xml, timeout=30)
    return done.returncode, done.stdout, done.stderr


def filters(bench, host):
    """migrate and restore print the XML with another page size if told to, and else nothing"""
    before, vm, same_size = pools(), huge(bench, page=LACKING), huge(bench, page=OFFERED)
    small = huge(bench, memory_mib=3, page=LACKING, backing="<source type='memfd'/>")
    for operation in ("migrate", "restore"):
        for conf in (DYNAMIC, ADAPT + "enabled = false\n", ADAPT + "and = this\n"):
            host.conf(conf)
            same(filtered(vm, operation), (0, "", ""), f"{operation} with {conf}")
        host.conf(ADAPT)
        same(filtered(vm, operation), (0, vm.xml.replace(LACKING, OFFERED), ""), operation)
        same(filtered(vm, operation, AS_NOBODY), (0, "", ""), f"{operation} without root's rights")
        same(filtered(same_size, operation), (0, "", ""), f"{operation} of a size that is offered")
        with replaced(host.module):
            same(filtered(vm, operation), (0, "", ""), f"{operation} without a module")
        status, printed, said = filtered(small, operation)
        same((status, printed), (1, ""), "status and output where no size will do")
        one_line(said, "pages of 16 MiB", "3 MiB", "what to do:")
    same(len(host.syslog.messages(vm.uuid, "using 2 MiB")), 2, "warnings in syslog")
    nothing_taken(before)


def reconnect(bench, host):
    """reconnect succeeds whatever is wrong, and takes, gives back and prints nothing"""
    before, vm, other = pools(), huge(bench), huge(bench)
    host.start(vm)
    claims = recorded()
    for way in (contextlib.nullcontext, *(way for way, _ in broken_ways(host)[:-1])):
        with way():
            for each in (vm, other):
                silent(each.name, "reconnect", "begin", "-", text=each.xml)
        same((recorded(), pages_now()), (claims, (NEED, 0)), "claims and pages")
    host.kill(vm)
    with damaged_ledger():
        silent(vm.name, "reconnect", "begin", "-", text=vm.xml)
    pools_become(before)
    nothing_taken(before)


# --- slow -------------------------------------------------------------------------------------


def virsh_create(bench, vm):
    return bench.start(["virsh", "-c", "qemu:///system", "create", vm.path])


def slowest_list(host, process):
    """The longest that virsh list takes while a process runs, and how long that runs."""
    begin, slowest = time.monotonic(), 0
    while process.poll() is None:
        call = time.monotonic()
        host.virsh("list", status=0)
        slowest = max(slowest, time.monotonic() - call)
    return slowest, time.monotonic() - begin


def pool_in_use(bench, host):
    """a pool that others resize is waited for until hook_timeout, and virsh list with it"""
    before, vm = pools(), huge(bench)
    host.start(vm)  # a libvirtd that has yet to probe QEMU takes seconds of its own
    host.kill(vm)
    host.conf(f"{DYNAMIC}[hugevm]\nhook_timeout = 1\n")
    with open(f"{STATE}/size-{M2}.lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = virsh_create(bench, vm)
        slowest, took = slowest_list(host, process)
        _, said = bench.end(process, status=1)
        nothing_taken(before)
    one_line(said.rpartition("unexpected exit status 1: ")[2], "held too long", "what to do:")
    print(f"# refused after {took:.1f} s; virsh list took {slowest:.1f} s at most")
    check(1 <= took < 6, f"the start ended after {took:.1f} s, with hook_timeout = 1")
    check(slowest < 3, f"virsh list took {slowest:.1f} s")
    pools_become(before)


def told_to_end(bench, host):
    """a hook that is told to end while it gets pages refuses the start and gives them back"""
    before, vm = pools(), huge(bench)
    host.conf(DYNAMIC)
    os.makedirs(STATE, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        with open(f"{STATE}/size-{M2}.lock", "a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            hook = bench.start(["sh", "-c", f"exec {HOOK} vm prepare begin - < {vm.path}"])
            until(recorded, "the claim")
            hook.send_signal(number)
        _, said = bench.end(hook, status=1)
        one_line(said, "hugevm: ", "give")
        nothing_taken(before)


def pool_in_use_beside_a_vm(bench, host):
    """beside a VM with grown pages a refused start waits no longer, nor does that VM's release"""
    before, first, vm = pools(), huge(bench), huge(bench)
    host.start(first)
    host.conf(f"{DYNAMIC}[hugevm]\nhook_timeout = 1\n")
    with open(f"{STATE}/size-{M2}.lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = virsh_create(bench, vm)
        slowest, took = slowest_list(host, process)
        bench.end(process, status=1)
        print(f"# refused after {took:.1f} s; virsh list took {slowest:.1f} s at most")
        check(slowest < 6, f"virsh list took {slowest:.1f} s, with hook_timeout = 1")
        begin = time.monotonic()
        host.kill(first)
        check(time.monotonic() - begin < 6, "the release took as long as it liked")
    same(bench.claims(), [], "claims")  # as root, this gives back what the release had to leave
    pools_become(before)


def long_growth(bench, host):
    """a VM of most of the memory gets its pages, or is refused within hook_timeout"""
    before, pages = pools(), bench.growable(9000)
    # the disk is missing: QEMU, which would have to touch all of it, is never started
    vm = huge(bench, memory_mib=pages * 2, devices="<disk type='file'>"
              "<source file='/nonexistent/disk'/><target dev='vda'/></disk>")
    host.conf(f"{DYNAMIC}[hugevm]\nhook_timeout = 1\n")
    seen = f"{bench.directory}/seen"
    with script(f"{HOOKS}/qemu.d/60-pages", f'echo "$2" $(cat {knob(M2)}) >> {seen}'):
        process = virsh_create(bench, vm)
        slowest, took = slowest_list(host, process)
        _, said = bench.end(process, status=1)
    print(f"# {pages} pages: {took:.1f} s; virsh list took {slowest:.1f} s at most")
    if "/nonexistent/disk" in said:
        holds(read(seen), f"prepare {pages}\n", "release 0\n")
    else:
        one_line(said.rpartition("unexpected exit status 1: ")[2], f"of {pages} pages", "time")
    check(slowest < 3, f"virsh list took {slowest:.1f} s")
    pools_become(before)
    nothing_taken(before)


# --- hostile ----------------------------------------------------------------------------------

TOUCH = "touch pwned $(touch pwned) `touch pwned`"
NAMES = (f"; {TOUCH}", "..", "-n", "%s%n%d%99999d", "two\nlines\x7f \x9b31m and \u202e back",
         "\u00e9" * 200, "'\"; <&>\\", "a\thugevm: \u2028all is well")
VALUES = ("; " + TOUCH, "%s%n%n%n%n", "&#x9b;31m&#127;&#x202e;", "9" * 60, "0x800", "2048 2048",
          "2048\nhugevm: all is well", "18446744073709551615", "../../etc/passwd")


def nothing_executed():
    for directory in ("/", "/tmp", "/root", "/run", os.getcwd()):
        check(not os.path.exists(f"{directory}/pwned"), f"{directory}/pwned is there")


def claims_are_clean(bench, vm):
    claim, = bench.claims()
    same(claim["name"], vm.name, "name in claims --json")
    text = bench.ctl("claims", status=0).stdout
    check(all(c.isprintable() or c == "\n" for c in text), f"control characters: {text!r}")
    holds(text, vm.uuid)


def hostile_names(bench, host):
    """a VM's name is not executed, and does not move the cursor of who reads a refusal"""
    host.conf(STATIC)
    before = pools()
    for name in NAMES:
        vm = rename(huge(bench), name)
        host.refused(vm, "wants 32 pages", "use_dynamic_hugepages")
    nothing_taken(before)
    nothing_executed()


def hostile_names_run(bench, host):
    """a VM with a hostile name starts and goes like any other, and claims show it harmless"""
    before = pools()
    for name in NAMES[:5]:
        vm = rename(huge(bench), name)
        host.start(vm)
        same(pages_now(), (NEED, 0), f"total and free while {name!r} runs")
        claims_are_clean(bench, vm)
        host.kill(vm)
        pools_become(before)
        nothing_taken(before)
    nothing_executed()


def hostile_values(bench, host):
    """a property hugepages with a hostile value is refused in one line, and nothing is executed"""
    before = pools()
    for value in VALUES:
        for own in (True, False):
            vm = bench.vm(memory_mib=64, inside=property_of(value, own))
            host.refused(vm, "hugepages")
    nothing_taken(before)
    nothing_executed()


if __name__ == "__main__":
    sys.exit(run([
        without_hugepages, refused_with_reason, with_damaged_ledger, configuration_breaks,
        module_goes, switched_off, switched_off_meanwhile, other_calls, states_of_a_start,
        as_nobody, strange_input, filters, reconnect, pool_in_use, told_to_end,
        pool_in_use_beside_a_vm, long_growth, hostile_names, hostile_names_run, hostile_values,
    ]))
