#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VDSM's hooks on an installed host: VDSM's protocol, user vdsm, real sudo, libvirtd and QEMU.

usage: test-vdsm.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading

import harness
from harness import (
    DYNAMIC, Failure, M2, STATE, STATIC, check, free, holds, pools, pools_become, read, same,
    set_total, smaps_of_guest, total, until, write)
from vdsm_host import (
    BASE, CONF, ELEMENT, HOOKS, HUGE, LIBVIRT_HOOK, NEED, PASSED, PATIENCE_S, SUDOERS, Vm, claimed,
    is_one_line, libvirtd, other_sudo, script, silent, sudo, vdsm, without, main)
from vdsm_runner import HookError, Runner


# --- memory in files --------------------------------------------------------------------------

FILES = "[hugevm]\nfile_backed_memory = 300\n"


def memory_in_files(bench):
    """on a host that keeps memory in files a VM is put there, and the next one is refused"""
    before, runner = pools(), vdsm(bench, FILES)
    vm = Vm(bench, runner)
    vm.start(vm.launch)
    holds(vm.xml, "<source type='file'/>", "<access mode='shared'/>",
          "<allocation mode='immediate'/>")
    claim, = bench.claims()
    same((claim["state"], claim["file_backed"]["kib"]), ("running", 256 << 10), "claim")
    check(f"{claim['file_backed']['directory']}/" in read(f"/proc/{vm.domain.qemu()}/maps"),
          "its memory is not there")
    second = Vm(bench, runner)
    try:
        second.before_vm_start()
        raise Failure("a second VM is not refused")
    except HookError as error:
        holds(str(error), "wants 256 MiB in files of", "44 MiB available")
    huge = Vm(bench, runner, {"hugepages": "2048"})
    try:
        huge.before_vm_start()
        raise Failure("a VM with huge pages is not refused")
    except HookError as error:
        holds(str(error), "asks for huge pages, but this host keeps the memory of all VMs in files")
    vm.destroy(vm.end)
    same((bench.claims(), pools()), ([], before), "claims and pools")


# --- starts that go well ----------------------------------------------------------------------


def whole_life(bench, owner):
    """From the first hook to the last one, with a look in between; owner: once QEMU is started."""
    before = pools()
    runner = vdsm(bench)
    vm = Vm(bench, runner, {"hugepages": "2048"})
    generations = []

    def launch(xml):
        holds(xml, ELEMENT, "2048", vm.uuid)
        generations.append(claimed(bench, "claimed")["generation"])
        same(free(), NEED, "free pages before QEMU")
        vm.launch(xml)
        # without a hook that says so, whoever asks sees that QEMU has its pages
        generations.append(claimed(bench, "running", owner=owner)["generation"])

    vm.start(launch)
    claim = claimed(bench, "running", owner=owner)
    same(generations, [claim["generation"]] * 2, "generations of the one claim")
    same(claim["qemu_pid"], vm.domain.qemu(), "QEMU of the claim")
    check(sum(smaps_of_guest(vm.domain.qemu(), M2)) >= 262144, "QEMU is not on huge pages")
    same(free(), 0, "free pages while it runs")
    vm.destroy(vm.end)
    pools_become(before)
    same(bench.claims(), [], "claims")
    vm.gone()
    same(pools(), before, "pools after a second after_vm_destroy")
    silent(runner)


def both_doors(bench):
    """beside libvirt's hook a start is one claim, and its pages are taken and given back once"""
    whole_life(bench, "libvirt")


def vdsm_alone(bench):
    """without libvirt's hook VDSM's serves a VM from its start to its end"""
    with without(LIBVIRT_HOOK):
        whole_life(bench, "vdsm")


def guest_ends(bench):
    """a QEMU that dies is followed by one after_vm_destroy, and its pages go back"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
        vm.start(vm.launch)
        harness.end_process(vm.domain.qemu())
        vm.gone()
        pools_become(before)
        same(bench.claims(), [], "claims")
    silent(vm.runner)


def end_too_early(bench):
    """after_vm_destroy of a VM that runs leaves its pages, with one line"""
    with without(LIBVIRT_HOOK):
        vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
        vm.start(vm.launch)
        status, text = vm.run_point("after_vm_destroy")[1][0]
        same(status, 1, "status")
        is_one_line(text)
        holds(text, "still runs", vm.domain.qemu())
        claimed(bench, "running")
        vm.destroy(vm.end)


def shared(bench):
    """hugepages_shared=true makes the memory of the domain shared"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048", "hugepages_shared": "true"})
    vm.start(vm.launch)
    holds(vm.xml, ELEMENT, "<access mode='shared'/>")
    same(claimed(bench, "running", owner="libvirt")["shared"], True, "shared in the claim")
    rows = [line.split() for line in read(f"/proc/{vm.domain.qemu()}/maps").splitlines()
            if "/libvirt/qemu" in line]
    check(rows and all("s" in row[1] for row in rows), f"mappings: {rows}")
    vm.destroy(vm.end)


def own_element(bench):
    """a VM whose XML has the element already gets its pages, and its XML stays as it is"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, inside=HUGE)
    vm.start(lambda xml: claimed(bench, "claimed"))
    same(vm.xml, vm.before, "XML")
    vm.destroy()
    pools_become(before)


def two_scripts(bench):
    """what a script before ours adds to the XML is seen, and one after ours sees our edit"""
    runner = vdsm(bench)
    vm = Vm(bench, runner, {"hugepages": "2048"})
    with script("before_vm_start", "10_more", "sed -i 's/>256</>128</' $_hook_domxml"), \
            script("before_vm_start", "99_mark", f"sed -i 's/{ELEMENT}/<!--seen-->&/' $_hook_domxml"):
        vm.before_vm_start()
    holds(vm.xml, ">128<", f"<!--seen-->{ELEMENT}")
    claimed(bench, "claimed", pages=64)
    vm.destroy()


def restore(bench):
    """a restore claims for the XML that has the element, whatever becomes of the hook's output"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, inside=HUGE)
        vm.restore(lambda xml: claimed(bench, "claimed"))
        same(vm.xml, vm.before, "XML")
        vm.destroy()
    pools_become(before)
    silent(vm.runner)


def migration(bench):
    """an incoming migration claims for an XML with the element, and gives back"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, inside=HUGE)
        vm.migrate_in(lambda xml: claimed(bench, "claimed"))
        same(vm.xml, vm.before, "XML")
        vm.destroy()
    pools_become(before)
    silent(vm.runner)


def parallel(bench):
    """six VMs at once, twice: all that fit get their pages, the others a reason"""
    for conf, pages, fitting in ((DYNAMIC, 0, 6), (STATIC, 100, 3)):
        set_total(pages)
        before = pools()
        runner = Runner(HOOKS, f"{bench.directory}/vdsm", base=BASE) if pages else vdsm(bench)
        write(CONF, conf)
        for _ in range(2):
            check_round(bench, [Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
                                for _ in range(6)], fitting)
            pools_become(before)
            same(bench.claims(), [], "claims")


def in_threads(actions):
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check_round(bench, vms, fitting):
    refusals, problems = [], []

    def start(vm):
        try:
            vm.before_vm_start()
            problems.extend([] if ELEMENT in vm.xml else [vm.xml])
        except HookError as error:
            refusals.append(str(error))
        except Exception as error:
            problems.append(repr(error))

    in_threads([functools.partial(start, vm) for vm in vms])
    same(problems, [], "problems")
    for text in refusals:
        is_one_line(text)
        holds(text, "short")
    claims = bench.claims()
    same((len(refusals), len(claims)), (6 - fitting, fitting), "refused and claimed")
    same({claim["owner_pid"] for claim in claims}, {os.getpid()}, "owners")
    check(fitting * 32 <= total(), f"{fitting} VMs fit into {total()} pages of 2 MiB")
    in_threads([vm.destroy for vm in vms])


# --- starts that fail -------------------------------------------------------------------------


def never_started(bench):
    """a VM that VDSM does not get started gives back at the engine's destroy"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    vm.before_vm_start()
    claimed(bench, "claimed")
    vm.destroy()
    same((pools(), bench.claims()), (before, []), "pools and claims")
    vm.gone()
    same((pools(), bench.claims()), (before, []), "pools and claims after the second call")
    silent(vm.runner)


def start_again(bench):
    """a VM whose start failed starts again without a destroy in between"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    vm.before_vm_start()
    vm.xml = vm.before
    vm.start(vm.launch)
    claimed(bench, "running", owner="libvirt")
    vm.destroy(vm.end)
    pools_become(before)
    silent(vm.runner)


def libvirt_refuses(bench):
    """a VM that libvirt does not start gives back"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, machine="no-such-machine")
    vm.before_vm_start()
    claimed(bench, "claimed")
    check(libvirtd().virsh("create", write(vm.domain.path, vm.xml)).returncode != 0, "it starts")
    vm.destroy()
    pools_become(before)
    same(bench.claims(), [], "claims")


def vdsm_dies(bench):
    """what a VDSM claimed that died before its QEMU came is given back by hugevmctl reconcile"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            vm.before_vm_start()
            signal.pause()
        os._exit(1)
    try:
        until(lambda: len(bench.claims()) == 1 and total() == NEED, "the claim")
        claimed(bench, "claimed", pid=child)
        bench.ctl("reconcile", status=0)
        claimed(bench, "claimed", pid=child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    bench.ctl("reconcile", status=0)
    same((pools(), bench.claims()), (before, []), "pools and claims")


def shortage(bench):
    """more memory than the machine has is refused with the reason"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, memory_mib=4 * 1024 * 1024)
    holds(vm.refused(), "2097152 pages", "short", "; what to do: ", "host_memory_floor")


def static_shortage(bench):
    """without dynamic huge pages an empty pool is a refusal that names the key"""
    vm = Vm(bench, vdsm(bench, STATIC), {"hugepages": "2048"})
    holds(vm.refused(), "short", "use_dynamic_hugepages")


def bad_property(bench):
    """a property's value that means nothing is refused with name and value"""
    runner = vdsm(bench)
    holds(Vm(bench, runner, {"hugepages": "abc"}).refused(), "hugepages", "abc", "2048")
    vm = Vm(bench, runner, {"hugepages": "2048", "hugepages_shared": "perhaps"})
    holds(vm.refused(), "hugepages_shared", "perhaps", "true or false")


def later_script(bench):
    """a start that a later script refuses is given back at the engine's destroy"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    with script("before_vm_start", "99_fail", "echo not today >&2; exit 1"):
        try:
            vm.start(lambda xml: check(False, "QEMU was started"))
            raise Failure("the start goes on")
        except HookError as error:
            same(str(error), "not today\n", "the error")
    claimed(bench, "claimed")
    vm.destroy()
    same((pools(), bench.claims()), (before, []), "pools and claims")


def edit_cannot_be_written(bench):
    """an edit that cannot be written refuses the start, and the claim goes at once"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    with script("before_vm_start", "10_close", "chmod 0555 $(dirname $_hook_domxml)"):
        holds(vm.refused(), "cannot change the domain XML", "Permission denied")
    os.chmod(vm.runner.directory, 0o755)
    vm.before_vm_start()  # nothing is left that would stand in its way
    vm.destroy()


def migration_without_element(bench):
    """an incoming VM whose XML lacks what the property asks for is refused with the element"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    holds(vm.refused(lambda: vm.migrate_in(lambda xml: check(False, "the migration goes on"))),
          "<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>")


def broken_host(bench):
    """a VM with huge pages is refused in one line where something of hugevm is broken"""
    runner = vdsm(bench)
    vm = Vm(bench, runner, {"hugepages": "2048"})
    with without(SUDOERS):
        holds(vm.refused(), "sudo: ", SUDOERS)
    with without(harness.module):
        holds(vm.refused(), "hugevm.so")
    write(CONF, "[hugevm]\nno_such_key = 1\n")
    holds(vm.refused(), CONF, "no_such_key")


def odd_sudo(bench):
    """a sudo that fails, dies or says what is no reply refuses the start in one line"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    for text in ("echo one >&2; echo two >&2; exit 1", "exit 1", "echo garbage", "kill -9 $$"):
        with other_sudo(text):
            vm.refused()


def silent_sudo(bench):
    """a sudo that says nothing and claims success refuses the start: nothing was claimed"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    with other_sudo("exit 0"):
        vm.refused()


def talkative_sudo(bench):
    """a sudo that says more than a pipe holds hangs no start"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    vm.runner.timeout = 10
    with other_sudo("head -c 200000 /dev/zero | tr '\\0' x >&2; exit 1"):
        vm.refused()


# --- whom it leaves alone ---------------------------------------------------------------------


def ordinary_vm(bench):
    """a VM without huge pages passes whatever of hugevm is broken or missing"""
    before = pools()
    runner = vdsm(bench)
    other = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
    other.before_vm_start()  # somebody's ledger
    ledger = read(f"{STATE}/ledger.json")
    vm = Vm(bench, runner, {"hugepages": "0", "hugepages_shared": "junk"})

    def life(what):
        vm.start(lambda xml: same(xml, vm.before, f"XML, {what}"))
        vm.migrate_in(lambda xml: None)
        vm.destroy()
        silent(runner)

    with without(SUDOERS):
        life("no sudoers")
        other.destroy()
        is_one_line(runner.log[-1][2])  # that one has something to give back
        runner.log.clear()
    other.destroy()
    pools_become(before)
    write(CONF, "[[[ no configuration\nx\n")
    life("broken configuration")
    for garbage in ("", "{{{ no ledger", ledger[:-40], "\0" * 100000):
        for name in ("ledger.json", "ledger.copy.json"):
            write(f"{STATE}/{name}", garbage)
        life(f"ledger {garbage[:20]!r}")
    with without(harness.module), without(SUDOERS), without("/usr/bin/sudo"):
        life("neither module nor sudo")
    same(pools(), before, "pools")


def switched_off(bench):
    """with enabled = false a VM with huge pages starts as if hugevm were not there"""
    before = pools()
    vm = Vm(bench, vdsm(bench, DYNAMIC + "[hugevm]\nenabled = false\n"), {"hugepages": "2048"})
    vm.start(lambda xml: same((pools(), bench.claims()), (before, []), "pools and claims"))
    same(vm.xml, vm.before, "XML")
    path, status, text = vm.runner.log[0]
    same((os.path.basename(path), status), ("50_hugevm", PASSED), "the hook")
    is_one_line(text)
    holds(text, "switched off")
    vm.destroy()


def call_libvirt_hook(vm, operation, sub_operation):
    subprocess.run([LIBVIRT_HOOK, vm.name, operation, sub_operation, "-"], input=vm.xml, text=True,
                   env=BASE, timeout=PATIENCE_S, check=True)


def late_release(bench):
    """libvirt's release of an earlier run spares what VDSM has claimed for the next one"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    vm.before_vm_start()
    call_libvirt_hook(vm, "release", "end")
    claimed(bench, "claimed")
    vm.destroy()
    same(bench.claims(), [], "claims")


def claim_left_behind(bench):
    """a claim that libvirt's hook has left behind does not stand in the way of VDSM's next start"""
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, inside=HUGE)
    call_libvirt_hook(vm, "prepare", "begin")
    claimed(bench, "guarded", owner="libvirt")
    vm.before_vm_start()
    claimed(bench, "claimed")
    vm.destroy()
    same(bench.claims(), [], "claims")


if __name__ == "__main__":
    sys.exit(main([
        both_doors, vdsm_alone, guest_ends, end_too_early, shared, own_element, two_scripts,
        restore, migration, parallel, never_started, start_again, libvirt_refuses, vdsm_dies,
        shortage, static_shortage, bad_property, later_script, edit_cannot_be_written,
        migration_without_element, broken_host, odd_sudo, silent_sudo, talkative_sudo,
        ordinary_vm, memory_in_files, switched_off, late_release, claim_left_behind,
    ]))
