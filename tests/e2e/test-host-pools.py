#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host agent in Python on this machine's pools: growth, giving back, others on the same pools.

usage: test-host-pools.py HUGEVMCTL HUGEVM.SO [WORD]

What stands for a QEMU is guest.py.
"""

import signal
import subprocess
import sys

import harness
from harness import (DYNAMIC, G1, M2, STATIC, check, end_process, free, holds, is_alive, main,
                     pools, pools_become, same, set_total, total, until, write)
from hugevm_host import CANCELLED, SHORTAGE, TIMEOUT, UNKNOWN_VM
from in_process import HERE, HUGE, NEED, guest, open_host, refused

# --- growth -----------------------------------------------------------------------------------


def big_vm(bench):
    """A VM of 4000 pages, or what the machine allows; the number of pages."""
    pages = bench.growable(4000)
    return bench.vm(memory_mib=pages * 2), pages


def cancelled_growth(bench):
    """a cancelled growth gives back what it had got"""
    set_total(20)
    before = pools()
    host, (vm, _) = open_host(bench), big_vm(bench)
    seen = []
    host.on_progress = lambda done, *_: seen.append((done, total())) or done >= 200
    error = refused(CANCELLED, host.before_vm_start, vm.xml, HUGE)
    done, there = seen[-1]
    check(done >= 200 and there >= 220, f"nothing had been got: {seen}")
    holds(error.message, "cancelled", done)
    same(pools(), before, "pools after the cancelled growth")
    same(bench.claims(), [], "claims")
    refused(UNKNOWN_VM, host.vm_launching, vm.uuid)


def timed_out_growth(bench):
    """a growth that runs out of time gives back what it had got"""
    before = pools()
    host, (vm, _) = open_host(bench), big_vm(bench)
    refused(TIMEOUT, host.before_vm_start, vm.xml, HUGE, timeout_ms=5)
    same(pools(), before, "pools after the growth that took too long")
    same(bench.claims(), [], "claims")


def timed_out_growth_of_large_pages(bench):
    """a growth of pages of 1 GiB that runs out of time gives back what it had got"""
    before = pools()
    host, vm = open_host(bench), bench.vm(memory_mib=4096)
    error = refused(TIMEOUT, host.before_vm_start, vm.xml, {"hugepages": str(G1)}, timeout_ms=10)
    print(f"# {error.message}")
    same(pools(), before, "pools after the growth that took too long")
    same(bench.claims(), [], "claims")


def progress_of_a_big_growth(bench):
    """a growth of thousands of pages reports progress more than once, and gives all back"""
    before = pools()
    host, (vm, pages) = open_host(bench), big_vm(bench)
    calls = []
    host.on_progress = lambda *call: calls.append(call)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), pages, "total")
    check(len(calls) > 1, f"progress was called {len(calls)} times")
    same([call[1] for call in calls], [pages] * len(calls), "pages wanted")
    same([call[0] for call in calls], sorted(call[0] for call in calls), "pages got so far")
    holds(calls[0][2], "2 MiB", "node 0")
    host.vm_start_failed(vm.uuid, result.generation)
    pools_become(before)


def no_progress_without_growth(bench):
    """a VM that finds free pages grows nothing and reports no progress"""
    set_total(NEED)
    host, vm = open_host(bench), bench.vm()
    calls = []
    host.on_progress = lambda *call: calls.append(call)
    result = host.before_vm_start(vm.xml, HUGE)
    same((calls, total()), ([], NEED), "progress and total")
    host.vm_start_failed(vm.uuid, result.generation)
    same((total(), free()), (NEED, NEED), "static pages that remain")


# --- letting go -------------------------------------------------------------------------------


def failed_start(bench):
    """vm_start_failed gives back what was grown, and not the administrator's pages"""
    set_total(50)
    host, vm = open_host(bench), bench.vm()
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), NEED, "total")
    host.vm_launching(vm.uuid, result.generation)
    host.vm_start_failed(vm.uuid, result.generation)
    same((total(), free()), (50, 50), "pages that remain")


def destroyed_twice(bench):
    """after_vm_destroy twice is the same as once"""
    set_total(30)
    host, vm, other = open_host(bench), bench.vm(), bench.vm(memory_mib=64)
    kept = host.before_vm_start(other.xml, HUGE)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), NEED + 32, "total")
    host.after_vm_destroy(vm.uuid, result.generation)
    once = total()
    check(32 <= once <= 62, f"{once} pages left for 32 claimed and 30 of the administrator")
    for _ in range(2):
        host.after_vm_destroy(vm.uuid, result.generation)
        same((total(), len(bench.claims())), (once, 1), "pages and claims")
    host.after_vm_destroy(other.uuid, kept.generation)
    same((total(), bench.claims()), (30, []), "pages and claims")


def late_event(bench):
    """an event of an older start does not free a newer claim"""
    before = pools()
    host, vm = open_host(bench), bench.vm()
    first = host.before_vm_start(vm.xml, HUGE)
    host.vm_start_failed(vm.uuid, first.generation)
    second = host.before_vm_start(vm.xml, HUGE)
    check(second.generation > first.generation, "generations do not rise")
    host.after_vm_destroy(vm.uuid, first.generation)
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims")
    refused(UNKNOWN_VM, host.vm_launching, vm.uuid, first.generation)
    host.after_vm_destroy(vm.uuid, second.generation)
    pools_become(before)


def claimed_again(bench):
    """a VM that its host claims twice without starting it has its pages once"""
    before = pools()
    host, vm = open_host(bench), bench.vm()
    host.before_vm_start(vm.xml, HUGE)
    second = host.before_vm_start(vm.xml, HUGE)
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims")
    host.after_vm_destroy(vm.uuid, second.generation)
    pools_become(before)


def configuration_breaks_meanwhile(bench):
    """pages come back although the configuration broke while the VM ran"""
    before = pools()
    host, vm = open_host(bench), bench.vm()
    result = host.before_vm_start(vm.xml, HUGE)
    bench.conf("[[[ broken")
    host.after_vm_destroy(vm.uuid, result.generation)
    pools_become(before)


def administrator_takes_pages(bench):
    """pages that the administrator took meanwhile are not taken a second time"""
    host, vm = open_host(bench), bench.vm()
    set_total(50)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), NEED, "total")
    write(harness.knob(M2), str(NEED - 70))
    same(pools()[M2], (NEED, NEED, 70, NEED), "total, free, surplus, resv: the guard holds them")
    host.after_vm_destroy(vm.uuid, result.generation)
    same(total(), 50, "total: of the 78 grown 70 were gone already")


def administrator_adds_pages(bench):
    """pages that the administrator added meanwhile stay"""
    host, vm = open_host(bench), bench.vm()
    result = host.before_vm_start(vm.xml, HUGE)
    set_total(NEED + 25)
    host.after_vm_destroy(vm.uuid, result.generation)
    same(total(), 25, "total")


# --- others on the same pools -----------------------------------------------------------------


def promised_pages(bench):
    """pages that another process has reserved but not yet touched are not given to a VM"""
    set_total(100)
    other, vm = bench.vm(), bench.vm(memory_mib=100)
    process = guest(bench, "untouched", 100, other.uuid)
    same(pools()[M2], (100, 100, 0, 100), "total, free, surplus, resv")
    error = refused(SHORTAGE, open_host(bench, STATIC).before_vm_start, vm.xml, HUGE)
    holds(error.message, "wants 50 pages of 2 MiB", "0 available", "100 used by others")
    host = open_host(bench)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), 150, "total, with 50 pages grown beside the reserved ones")
    host.vm_start_failed(vm.uuid, result.generation)
    same(pools()[M2], (100, 100, 0, 100), "total, free, surplus, resv")
    end_process(process.pid)


def database_restarts(bench):
    """a user of static pages that restarts beside a VM finds its pages"""
    set_total(40)
    host, vm, database = open_host(bench), bench.vm(), bench.vm()
    first = guest(bench, "touched", 40, database.uuid)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), 40 + NEED, "total")
    host.vm_launching(vm.uuid, result.generation)
    machine = guest(bench, "touched", NEED, vm.uuid, "qemu-guest")
    host.after_vm_start(vm.uuid, result.generation, machine.pid)
    bench.end(first, signal.SIGKILL, status=None)
    until(lambda: free() == 40, "the database's pages")
    end_process(machine.pid)
    machine.wait()
    host.after_vm_destroy(vm.uuid, result.generation)
    same((total(), free()), (40, 40), "pages while nothing runs")
    guest(bench, "touched", 40, database.uuid)


def reserved_pages(bench):
    """pages reserved by configuration are not given to a VM, and growth goes around them"""
    set_total(60)
    conf = "reserved_hugepage_count = 60\nreserved_hugepage_size = 2048\n"
    vm = bench.vm(memory_mib=64)
    refused(SHORTAGE, open_host(bench, STATIC + conf).before_vm_start, vm.xml, HUGE)
    host = open_host(bench, DYNAMIC + conf)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), 92, "total")
    host.vm_start_failed(vm.uuid, result.generation)
    same(total(), 60, "total")


AGENT = """
import sys
sys.path.insert(0, sys.argv[1])
import hugevm_host
host = hugevm_host.Host(sys.argv[2], [sys.argv[3]])
xml = open(sys.argv[4]).read()
sys.stdin.readline()
result = host.before_vm_start(xml, {"hugepages": "2048"})
print(result.generation, flush=True)
sys.stdin.readline()
host.vm_start_failed(result.uuid, result.generation)
"""


def agent(bench, vm):
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, HERE, harness.module, bench.conf(), vm.path], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    bench.started.append(process)
    return process


def poke(process):
    process.stdin.write("\n")
    process.stdin.flush()


def two_agents(bench):
    """two agents that claim 100 pages each at once both get theirs, and all goes back"""
    before = pools()
    agents = [agent(bench, bench.vm(memory_mib=200)) for _ in range(2)]
    for process in agents:
        poke(process)
    generations = {process.stdout.readline() for process in agents}
    same(len(generations), 2, f"different generations {generations}")
    same((total(), len(bench.claims())), (200, 2), "pages and claims")
    for process in agents:
        poke(process)
        _, err = process.communicate(timeout=30)
        same((process.returncode, err), (0, ""), "end of an agent")
    pools_become(before)
    same(bench.claims(), [], "claims")


def dead_agent(bench):
    """the claim of an agent that was killed before QEMU came is gone with the next call"""
    before, vm = pools(), bench.vm()
    process = agent(bench, vm)
    poke(process)
    process.stdout.readline()
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims while the agent lives")
    process.kill()
    process.wait()
    bench.ctl("reconcile", status=0)
    pools_become(before)
    same(bench.claims(), [], "claims")


def owner_is_another(bench):
    """a claim lives as long as the process that its host names as owner"""
    before, vm = pools(), bench.vm()
    owner = bench.start(["sleep", "60"])
    process = bench.start([sys.executable, "-c", f"""
import sys
sys.path.insert(0, {HERE!r})
import hugevm_host
host = hugevm_host.Host({harness.module!r}, [{bench.conf()!r}], owner_pid={owner.pid})
host.before_vm_start(open({vm.path!r}).read(), {HUGE!r})
"""])
    bench.end(process)
    bench.ctl("reconcile", status=0)
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims while the owner lives")
    same(bench.claims()[0]["owner_pid"], owner.pid, "owner")
    owner.kill()
    owner.wait()
    bench.ctl("reconcile", status=0)
    pools_become(before)


def orphaned_vm(bench):
    """a VM that outlives its agent keeps its pages until it ends"""
    before, vm = pools(), bench.vm()
    process = agent(bench, vm)
    poke(process)
    process.stdout.readline()
    open_host(bench).vm_launching(vm.uuid)
    machine = guest(bench, "touched", NEED, vm.uuid, "qemu-guest")
    process.kill()
    process.wait()
    bench.ctl("reconcile", status=0)
    check(is_alive(machine.pid), "the VM has died")
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims while it runs")
    end_process(machine.pid)
    machine.wait()
    bench.ctl("reconcile", status=0)
    pools_become(before)
    same(bench.claims(), [], "claims")


if __name__ == "__main__":
    sys.exit(main([
        cancelled_growth, timed_out_growth, timed_out_growth_of_large_pages,
        progress_of_a_big_growth, no_progress_without_growth, failed_start, destroyed_twice,
        late_event, claimed_again, configuration_breaks_meanwhile, administrator_takes_pages,
        administrator_adds_pages, promised_pages, database_restarts, reserved_pages, two_agents,
        dead_agent, owner_is_another, orphaned_vm,
    ]))
