#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VDSM's points about the host, on an installed host: its figures for the engine, and its own start.

usage: test-vdsm-points.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys

import harness
from harness import (
    DYNAMIC, M2, STATE, STATIC, check, free, holds, pools, pools_become, read, same, set_total,
    total, write)
from vdsm_host import (
    BASE, CONF, HOOKS, LIBVIRT_HOOK, NEED, PASSED, SUDOERS, Vm, claimed, end_unseen, is_one_line,
    other_sudo, script, silent, vdsm, without, main)
from vdsm_runner import HookError

LOGGED = 1
STATS, CAPS = "after_get_stats", "after_get_caps"
VDSM_CONF = "/etc/vdsm/vdsm.conf"
OWN_CONF = "/etc/hugevm/hugevm.conf.d/50-dynamic.conf"


# --- figures for the engine -------------------------------------------------------------------


def vdsms_stats():
    """As VDSM makes them: the kernel's counts, whatever is reserved or promised."""
    return {
        "cpuIdle": "99.87", "swapFree": 0, "ksmState": True, "anonHugePages": "4", "x": [0.1, None],
        "hugepages": {str(kib): {"nr_hugepages": total(kib), "free_hugepages": free(kib),
                                 "vm.free_hugepages": free(kib)} for kib in harness.sizes()},
        "numaNodeMemFree": {"0": {
            "memFree": "61210", "memPercent": 3, "hugepages": {
                "4": {"freePages": 15669000},
                **{str(kib): {"freePages": free(kib)} for kib in harness.sizes()}}}},
    }


def vdsms_caps():
    return {"hugepages": harness.sizes(), "kvmEnabled": "true",
            "numaNodes": {"0": {"totalMemory": "24000", "cpus": [0, 1], "hugepages": {
                "4": {"totalPages": "15669000"},
                **{str(kib): {"totalPages": "0"} for kib in harness.sizes()}}}}}


def reported(runner):
    """Pages of 2 MiB for VMs on any node, and on node 0; nothing else has changed."""
    before = vdsms_stats()
    found, results = runner.report(STATS, before)
    same(results, [(PASSED, "")], "what the hook says")
    same(list(found), list(before), "members, in their order")
    pages = (found["hugepages"][str(M2)]["vm.free_hugepages"],
             found["numaNodeMemFree"]["0"]["hugepages"][str(M2)]["freePages"])
    wanted = copy.deepcopy(before)
    for kib in map(str, harness.sizes()):
        for path in (("hugepages", kib, "vm.free_hugepages"),
                     ("numaNodeMemFree", "0", "hugepages", kib, "freePages")):
            inside, there = wanted, found
            for name in path[:-1]:
                inside, there = inside[name], there[name]
            inside[path[-1]] = there[path[-1]]
    same(found, wanted, "the other figures")
    return pages


def reserves_are_taken_off(bench):
    """VDSM's free pages become those that a VM could have: reserves and claims are taken off"""
    runner = vdsm(bench, STATIC + "[hugevm]\nreserved = ovs=size:2M,count:40\n")
    set_total(100)
    same(reported(runner), (60, 60), "pages beside a reserve")
    vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
    vm.before_vm_start()
    same(free(), 100, "free pages by the kernel")
    same(reported(runner), (28, 28), "pages beside a claim, too")
    big = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=58)
    try:
        big.before_vm_start()
        check(False, "a VM of more than is reported starts")
    except HookError as error:
        holds(str(error), "short")
    fits = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=56)
    fits.before_vm_start()
    same(reported(runner), (0, 0), "pages when all are claimed")
    for one in (vm, fits):
        one.destroy()
    same(reported(runner), (60, 60), "pages at the end")


def growth_is_reported(bench):
    """with dynamic pages what can be had is reported, never more, and the total stays"""
    available_mib = next(int(line.split()[1]) for line in read("/proc/meminfo").splitlines()
                         if line.startswith("MemAvailable:")) // 1024
    runner = vdsm(bench, f"{DYNAMIC}[hugevm]\nhost_memory_floor = {available_mib - 1536}M,0%\n")
    before = pools()
    anywhere, on_node = reported(runner)
    check(0 < anywhere < 1200 and 0 < on_node < 1200, f"{anywhere} and {on_node} are reported")
    status = bench.json("status", status=0)["sizes"][0]
    check(anywhere <= status["allocatable"] + 64, f"{anywhere}, and root sees {status}")
    vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=anywhere * 2 * 3 // 4)
    vm.before_vm_start()
    same(total(), anywhere * 3 // 4, "pages for a VM of three quarters of what is reported")
    vm.destroy()
    pools_become(before)


def caps_are_of_now(bench):
    """the pools in VDSM's capabilities are those of now"""
    runner = vdsm(bench, STATIC)
    set_total(64)
    before = vdsms_caps()
    found, results = runner.report(CAPS, before)
    same(results, [(PASSED, "")], "what the hook says")
    before["numaNodes"]["0"]["hugepages"][str(M2)]["totalPages"] = "64"
    same(found, before, "capabilities")


def needs_no_root(bench):
    """the figures are put right without sudo, and nothing is left behind"""
    runner = vdsm(bench, STATIC)
    set_total(10)
    shutil.rmtree(STATE, ignore_errors=True)
    with without(SUDOERS), other_sudo("touch /tmp/hugevm-sudo-was-asked"):
        same(reported(runner), (10, 10), "pages")
        same(runner.report(CAPS, vdsms_caps())[1], [(PASSED, "")], "what the hook says of caps")
    check(not os.path.exists("/tmp/hugevm-sudo-was-asked"), "sudo was asked")
    check(not os.path.exists(STATE), "a look made a ledger")
    same(os.listdir(runner.directory), [], "files left")


def stays(runner, point, document, *parts):
    """VDSM's document comes back as it was; parts of the one line that is said, none: silence."""
    found, results = runner.report(point, document)
    same(found, document, f"{point} of a broken host")
    same((len(results), results[0][0]), (1, PASSED), f"{point}: exit status")
    if parts:
        is_one_line(results[0][1])
        holds(results[0][1], *parts)
    else:
        same(results[0][1], "", f"{point} says")


def broken_parts(bench):
    """whatever of hugevm is broken, VDSM's figures stay, with one line"""
    runner = vdsm(bench, STATIC)
    set_total(10)
    Vm(bench, runner, {"hugepages": "2048"}, memory_mib=16).before_vm_start()  # a ledger
    stats, caps = vdsms_stats(), vdsms_caps()
    for document in ({}, {"hugepages": {}}, {"hugepages": None, "numaNodes": 3}):
        for point in (STATS, CAPS):
            stays(runner, point, document, "lacks")
    with without(harness.module):
        for point, document in ((STATS, stats), (CAPS, caps)):
            stays(runner, point, document, "hugevm.so")
    write(CONF, "[hugevm]\nno_such_key = 1\n")
    stays(runner, STATS, stats, CONF, "no_such_key")
    os.chmod(write(CONF, STATIC), 0o600)
    stays(runner, STATS, stats, CONF)
    os.chmod(write(CONF, STATIC + "[hugevm]\nenabled = false\n"), 0o644)
    for point, document in ((STATS, stats), (CAPS, caps)):
        stays(runner, point, document)
    write(CONF, STATIC)
    for name in ("ledger.json", "ledger.copy.json"):
        write(f"{STATE}/{name}", "{ no ledger")
    stays(runner, STATS, stats, "ledger.json")


def other_scripts(bench):
    """scripts before and after ours see what it is given, and what it made of it"""
    runner = vdsm(bench, STATIC + "[hugevm]\nreserved = size:2M,count:4\n")
    set_total(10)
    look = ("#!/usr/bin/python3\nimport hooking\ndata = hooking.read_json()\n"
            f"data['{{}}'] = data['hugepages']['{M2}']['vm.free_hugepages']\n"
            "hooking.write_json(data)\n")
    with script(STATS, "10_before", "") as _, script(STATS, "90_after", "") as _:
        for name in ("10_before", "90_after"):
            write(f"{HOOKS}/{STATS}/{name}", look.format(name))
        found, results = runner.report(STATS, vdsms_stats())
    same(results, [(PASSED, "")] * 3, "what the scripts say")
    same((found["10_before"], found["90_after"]), (10, 6), "what they have seen")


# --- VDSM's own start -------------------------------------------------------------------------


def starts(runner, *expected):
    """before_vdsm_start passes, and says so many lines; parts of each."""
    ((status, text),) = runner.before_vdsm_start()
    lines = text.splitlines(True)
    same((status, len(lines)), (PASSED, len(expected)), f"status and lines of {text!r}")
    for line, parts in zip(lines, expected):
        is_one_line(line)
        holds(line, *parts)


def missed_end(bench):
    """a VM that ended while VDSM did not run is given back when VDSM starts; one that runs is not"""
    before = pools()
    with without(LIBVIRT_HOOK):
        runner = vdsm(bench)
        gone, there = (Vm(bench, runner, {"hugepages": "2048"}) for _ in range(2))
        for vm in (gone, there):
            vm.start(vm.launch)
        end_unseen(gone)
        never = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
        never.before_vm_start()
        starts(runner)
        claimed(bench, "running")
        same(bench.claims()[0]["uuid"], there.uuid, "the VM that runs")
        there.destroy(there.end)
        gone.gone()
        never.gone()
        silent(runner)
    same(bench.claims(), [], "claims")
    pools_become(before)


def others_claims(bench):
    """claims of other hosts are not VDSM's to let go of"""
    vm = Vm(bench, vdsm(bench), inside="<memoryBacking><hugepages/></memoryBacking>")
    subprocess.run([LIBVIRT_HOOK, vm.name, "prepare", "begin", "-"], input=vm.xml, text=True, env=BASE,
                   check=True)
    starts(vm.runner)
    claimed(bench, "guarded", owner="libvirt", pages=NEED)
    bench.ctl("release", vm.uuid, status=0)


def nothing_there(bench):
    """on a host where hugevm has done nothing yet, VDSM starts without a word or a trace"""
    runner = vdsm(bench)
    shutil.rmtree(STATE, ignore_errors=True)
    starts(runner)
    check(not os.path.exists(STATE), "a ledger was made")


def broken_at_start(bench):
    """what is broken is told in one line when VDSM starts, and set right where it can be"""
    before = pools()
    runner = vdsm(bench)
    with without(harness.module):
        ((status, text),) = runner.before_vdsm_start()
        same(status, LOGGED, "status without the module")
        is_one_line(text)
    vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
    vm.before_vm_start()
    write(CONF, "[hugevm]\nno_such_key = 1\n")
    starts(runner, (CONF, "no_such_key"))
    same(bench.claims(), [], "claims in spite of the configuration")
    pools_become(before)
    write(CONF, DYNAMIC)
    for name in ("ledger.json", "ledger.copy.json"):
        write(f"{STATE}/{name}", "{ no ledger")
    starts(runner, ("ledger.json is damaged",))
    starts(runner)
    same(bench.claims(), [], "claims of a new ledger")


def earlier_boot(bench):
    """after_vm_destroy of a VM of an earlier boot changes nothing"""
    before = pools()
    runner = vdsm(bench, STATIC)
    set_total(NEED)
    vm = Vm(bench, runner, {"hugepages": "2048"})
    vm.before_vm_start()
    for name in ("ledger.json", "ledger.copy.json"):
        ledger = json.loads(read(f"{STATE}/{name}"))
        ledger["grown"] = [{"node": 0, "size_kib": M2, "grown_pages": NEED,
                            "persistent_pages": NEED, "handed_pages": 0, "regained_pages": 0}]
        write(f"{STATE}/{name}", json.dumps({**ledger, "boot_id": "an earlier one"}))
    found = pools()
    vm.destroy()
    starts(runner)
    silent(runner)
    same((pools(), bench.claims()), (found, []), "pools and claims")
    set_total(before[M2][0])


# --- VDSM's own switch ------------------------------------------------------------------------


@contextlib.contextmanager
def installed_vdsm(text):
    """The host has VDSM, with this configuration."""
    os.makedirs("/usr/share/vdsm")
    os.makedirs(os.path.dirname(VDSM_CONF), exist_ok=True)
    write(VDSM_CONF, text)
    try:
        yield
    finally:
        os.rmdir("/usr/share/vdsm")
        os.unlink(VDSM_CONF)


def clash(bench):
    """VDSM's own switch is reported when VDSM starts, at each start of a VM, and by doctor"""
    runner = vdsm(bench, "")
    place = f"{VDSM_CONF}:2"
    with installed_vdsm(DYNAMIC):
        starts(runner, (place, "use_dynamic_hugepages", "/etc/hugevm/hugevm.conf"))
        set_total(NEED)
        vm = Vm(bench, runner, {"hugepages": "2048"})
        vm.before_vm_start()
        is_one_line(runner.log[-1][2])
        holds(runner.log[-1][2], "warning", place)
        holds(bench.ctl("doctor").stdout, "problem: settings:", place)
        same(total(), NEED, "pages: VDSM's switch is not ours")
        ordinary = Vm(bench, runner)
        ordinary.before_vm_start()
        same(runner.log[-1][1:], (PASSED, ""), "what an ordinary VM hears")
        same(reported(runner), (0, 0), "pages, and nothing is said of it every few seconds")
        vm.destroy()


def own_switch(bench):
    """hugevm's switch is set in a file that VDSM does not read, as the page says"""
    before = pools()
    runner = vdsm(bench, "")
    os.makedirs(os.path.dirname(OWN_CONF), exist_ok=True)
    with installed_vdsm(STATIC):
        write(OWN_CONF, DYNAMIC)
        try:
            starts(runner)
            vm = Vm(bench, runner, {"hugepages": "2048"})
            vm.before_vm_start()
            claimed(bench, "claimed")
            check("use_dynamic_hugepages = true" not in bench.ctl("doctor").stdout, "doctor complains")
            vm.destroy()
            silent(runner)
        finally:
            os.unlink(OWN_CONF)
    pools_become(before)


if __name__ == "__main__":
    sys.exit(main([
        reserves_are_taken_off, growth_is_reported, caps_are_of_now, needs_no_root, broken_parts,
        other_scripts, missed_end, others_claims, nothing_there, broken_at_start, earlier_boot, clash,
        own_switch,
    ]))
