#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's hook under a real libvirtd: VMs get their pages, and whatever ends them, they go back.

usage: test-libvirt.py HUGEVMCTL HUGEVM.SO [WORD]

What happens where something is broken or hostile is in test-libvirt-faults.py.
"""

import concurrent.futures
import os
import sys
import time

import harness
from harness import (G1, M2, STATIC, check, end_process, hugetlbfs_of, is_alive, pools,
                     pools_become, read, same, set_total, smaps_of_guest, total, until, write)
from hugevm_host import Host as InProcessHost
from installed_host import HOOKS
from libvirt_host import (GIGANTIC, HOOK, NEED, huge, pages_now, property_of, recorded, replaced,
                          run, script, silent)


def back_as_before(bench, before):
    pools_become(before)
    same(recorded(), [], "claims")
    same(bench.claims(), [], "claims of hugevmctl")


# --- a VM's life ------------------------------------------------------------------------------


def whole_life(bench, host):
    """a VM on an empty pool runs on huge pages, and virsh destroy gives them back"""
    before, vm = pools(), huge(bench, memory_mib=256)
    same(total(), 0, "pages before")
    qemu = host.start(vm)
    same(pages_now(), (128, 0), "total and free while it runs")
    check(sum(smaps_of_guest(qemu, M2)) >= 262144, "QEMU is not on pages of 2 MiB")
    claim, = bench.claims()
    same((claim["uuid"], claim["name"], claim["state"]), (vm.uuid, vm.name, "running"), "claim")
    same((claim["owner"], claim["owner_pid"]), ("libvirt", host.libvirtd.process.pid), "owner")
    same(claim["qemu_pid"], qemu, "QEMU's pid")
    host.destroy(vm)
    back_as_before(bench, before)


def without_hook(bench, host):
    """without the hook the same VM does not start: it is the hook that makes it run"""
    before, vm = pools(), huge(bench, memory_mib=256)
    with replaced(HOOK):
        host.fails(vm, "Cannot allocate memory")
    same(pools(), before, "pools")


def persistent_vm(bench, host):
    """a defined VM starts twice, after a QEMU that was killed and one that has quit"""
    before, vm = pools(), huge(bench)
    host.virsh("define", vm.path, status=0)
    try:
        host.virsh("start", vm.name, status=0)
        same(pages_now(), (NEED, 0), "total and free while it runs")
        host.kill(vm)
        back_as_before(bench, before)
        host.virsh("start", vm.name, status=0)
        same(pages_now(), (NEED, 0), "total and free while it runs again")
        # what is left of the answer when QEMU goes is of no interest here
        host.virsh("qemu-monitor-command", vm.name, "--hmp", "quit")
        host.wait_gone(vm)
        back_as_before(bench, before)
    finally:
        host.virsh("undefine", vm.name, status=0)


# --- starts that fail -------------------------------------------------------------------------


def disk_of(path):
    return ("<disk type='file'><driver type='qcow2'/>"
            f"<source file='{path}'/><target dev='vda'/></disk>")


def failed_starts(bench, host):
    """a start that libvirt or QEMU fails after hugevm gave pages leaves the pools as they were"""
    set_total(10)
    before = pools()
    no_qcow2 = write(f"{bench.directory}/no-qcow2", "this is no disk\n")
    with script(f"{HOOKS}/qemu.d/60-pages", f"cat {harness.knob(M2)} >> {bench.directory}/seen"):
        host.fails(huge(bench, devices=disk_of("/nonexistent/disk")), "/nonexistent/disk")
        back_as_before(bench, before)
        host.fails(huge(bench, devices=disk_of(no_qcow2)), "qcow2")
        back_as_before(bench, before)
    # prepare, stopped, release; prepare, start, stopped, release
    seen = [int(word) for word in read(f"{bench.directory}/seen").split()]
    same(seen, [NEED, 10, 10, NEED, NEED, 10, 10], "total after each call of the hook")


def refused_start(bench, host):
    """a VM larger than the machine is refused with all numbers in one line, and takes nothing"""
    set_total(50)
    before, vm = pools(), huge(bench, memory_mib=1 << 20)
    host.refused(vm, vm.name, "wants 524288 pages of 2 MiB", "50 available", "short",
                 "what to do: stop something", "host_memory_floor")
    back_as_before(bench, before)
    same(host.syslog.messages("hugevm", vm.uuid), [], "what the release says of it")


# --- libvirtd comes and goes ------------------------------------------------------------------


def daemon_restarts(bench, host):
    """a VM and its claim outlive libvirtd's restart and its SIGKILL, then all goes back"""
    before, vm = pools(), huge(bench)
    qemu = host.start(vm)
    claims = recorded()
    for end in (host.libvirtd.stop, host.libvirtd.kill):
        end()
        bench.ctl("reconcile", status=0)
        same((recorded(), pages_now()), (claims, (NEED, 0)), "claims, total, free without libvirtd")
        host.libvirtd.start()
        until(lambda: host.has(vm), "the VM in libvirt's list", 30, 0.1)
        check(is_alive(qemu), "the VM has died")
        same((recorded(), pages_now()), (claims, (NEED, 0)), "claims, total and free")
    host.destroy(vm)
    back_as_before(bench, before)


def both_die(bench, host):
    """pages of a VM that ended while libvirtd was dead come back when that starts again"""
    set_total(4)  # beside pages of the administrator's none are handed over to the kernel
    before, vm = pools(), huge(bench)
    qemu = host.start(vm)
    host.libvirtd.kill()
    end_process(qemu)
    until(lambda: not is_alive(qemu), "QEMU's end")
    same((total(), len(recorded())), (NEED, 1), "total and claims while nobody is there")
    host.libvirtd.start()
    until(lambda: pools() == before, "the pages", 30)
    back_as_before(bench, before)


def daemon_dies_in_start(bench, host):
    """pages of a start in whose middle libvirtd was killed come back with hugevmctl reconcile"""
    before, vm = pools(), huge(bench)
    sleeper = f"{bench.directory}/sleeper"
    with script(f"{HOOKS}/qemu.d/60-slow",
                f'[ "$2" = prepare ] && echo $$ > {sleeper}.new && mv {sleeper}.new {sleeper} &&'
                " exec sleep 60"):
        process = bench.start(["virsh", "-c", "qemu:///system", "create", vm.path])
        until(lambda: os.path.exists(sleeper), "the second hook", 30)
        claim, = recorded()
        same((claim["state"], total()), ("guarded", NEED), "state and total before QEMU comes")
        host.libvirtd.kill()
        end_process(int(read(sleeper)))
        bench.end(process, status=1)
    same((vm.qemu(), total(), recorded()), (0, NEED, [claim]), "QEMU, total, claims after it")
    bench.ctl("reconcile", status=0)
    back_as_before(bench, before)


# --- whose pages ------------------------------------------------------------------------------


def beside_static_pages(bench, host):
    """beside 50 static pages 78 are grown, and exactly the 50 remain"""
    set_total(50)
    vm = huge(bench, memory_mib=256)
    host.start(vm)
    same(pages_now(), (128, 0), "total and free while it runs")
    host.kill(vm)
    same(pages_now(), (50, 50), "total and free afterwards")


def static_pages_only(bench, host):
    """without dynamic allocation a VM runs on static pages, or is refused with the key to set"""
    host.conf(STATIC)
    set_total(NEED + 8)
    vm = huge(bench)
    host.start(vm)
    same(pages_now(), (NEED + 8, 8), "total and free while it runs")
    host.kill(vm)
    same(pages_now(), (NEED + 8, NEED + 8), "total and free afterwards")
    set_total(NEED - 1)
    host.refused(huge(bench), f"wants {NEED} pages of 2 MiB", "1 short", "what to do:",
                 "use_dynamic_hugepages = true", "[performance]")
    same((pages_now(), recorded()), ((NEED - 1, NEED - 1), []), "pages and claims")


# --- mounts -----------------------------------------------------------------------------------


def needs_gigantic_page(bench):
    """The cases with a page of 1 GiB fail, and are not skipped, where there is none to be had."""
    pool = next(pool for pool in bench.json("status", conf=bench.conf(), status=0)["pools"]
                if pool["size_kib"] == G1)
    check(pool["allocatable"] >= 1, f"this machine has no room for a page of 1 GiB: {pool}")


def no_mount(bench, host):
    """without a hugetlbfs of its page size a VM is refused with the command; memfd needs none"""
    needs_gigantic_page(bench)
    before = pools()
    host.refused(huge(bench, memory_mib=1024, page=GIGANTIC), "no hugetlbfs", "1 GiB",
                 "mount -t hugetlbfs -o pagesize=1G", "restart libvirtd")
    same((pools(), recorded()), (before, []), "pools and claims")
    vm = huge(bench, memory_mib=1024, page=GIGANTIC, backing="<source type='memfd'/>")
    qemu = host.start(vm)
    same(pages_now(G1), (1, 0), "total and free while it runs")
    same(sum(smaps_of_guest(qemu, G1)), G1, "KiB on pages of 1 GiB")
    host.kill(vm)
    back_as_before(bench, before)


def late_mount(bench, host):
    """a page size mounted after libvirtd's start is refused, and works after its restart"""
    needs_gigantic_page(bench)
    before, vm = pools(), huge(bench, memory_mib=1024, page=GIGANTIC)
    try:
        with hugetlbfs_of(G1):
            host.refused(vm, "1 GiB", "mounted after libvirtd had started", "restart libvirtd")
            same((pools(), recorded()), (before, []), "pools and claims")
            host.libvirtd.restart()
            qemu = host.start(vm)
            same(pages_now(G1), (1, 0), "total and free while it runs")
            same(sum(smaps_of_guest(qemu, G1)), G1, "KiB on pages of 1 GiB")
            host.destroy(vm)
            back_as_before(bench, before)
    finally:
        host.libvirtd.restart()  # it would look for the mount


def gigantic(bench, host):
    """pages of 1 GiB go the same ways: every end, a failed start, a refusal, a restart, static pages"""
    needs_gigantic_page(bench)
    empty = pools()
    try:
        with hugetlbfs_of(G1):
            host.libvirtd.restart()
            vm = huge(bench, memory_mib=2048, page=GIGANTIC)
            host.fails(huge(bench, memory_mib=1024, page=GIGANTIC,
                            devices=disk_of("/nonexistent/disk")), "/nonexistent/disk")
            host.refused(huge(bench, memory_mib=1 << 20, page=GIGANTIC), "1 GiB", "what to do:")
            with replaced(HOOK):
                host.fails(vm, "Cannot allocate memory")
            back_as_before(bench, empty)
            set_total(1, G1)
            beside = pools()
            host.start(vm)
            same(pages_now(G1), (2, 0), "total and free while it runs")
            host.libvirtd.restart()
            host.kill(vm)
            back_as_before(bench, beside)
    finally:
        set_total(0, G1)
        host.libvirtd.restart()  # it would look for the mount


# --- what the XML must say --------------------------------------------------------------------


def property_alone(bench, host):
    """a property hugepages without <hugepages> is refused with the element, and with it runs"""
    before = pools()
    host.refused(bench.vm(memory_mib=64, inside=property_of(M2)), "property hugepages",
                 "<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages>")
    same((pools(), recorded()), (before, []), "pools and claims")
    vm = huge(bench, inside=property_of(M2), page="<page size='2048' unit='KiB'/>")
    host.start(vm)
    same(pages_now(), (NEED, 0), "total and free while it runs")
    host.kill(vm)
    back_as_before(bench, before)


def private_memory(bench, host):
    """a vhostuser interface with private memory is refused by its name"""
    before = pools()
    interface = (f"<interface type='vhostuser'><source type='unix' path='{bench.directory}/socket'"
                 " mode='server'/><model type='virtio'/></interface>")
    host.refused(huge(bench, devices=interface), "shared memory is needed by interface 'vhostuser'",
                 f"socket '{bench.directory}/socket'", "what to do:", "<access mode='shared'/>")
    same((pools(), recorded()), (before, []), "pools and claims")


# --- two doors --------------------------------------------------------------------------------


def run_through_libvirtd(bench, host):
    """hugevmctl run through a libvirtd with the hook makes one claim, and all goes back"""
    before, vm, seen = pools(), bench.vm(memory_mib=64), []
    process = bench.run(vm, "-c", "qemu:///system", "--for", "2")
    while process.poll() is None:
        seen.append((len(recorded()), total()))
        time.sleep(0.01)
    bench.end(process)
    same(sorted({claims for claims, _ in seen}), [0, 1], "numbers of claims seen")
    same(max(pages for _, pages in seen), NEED, "most pages seen")
    host.wait_gone(vm)
    back_as_before(bench, before)


def taken_over(bench, host):
    """a claim that another agent made for a VM is taken over, and its pages are not got twice"""
    before, vm = pools(), bench.vm(memory_mib=64)
    agent = InProcessHost(harness.module, [bench.conf()])
    result = agent.before_vm_start(vm.xml, {"hugepages": str(M2)})
    same((bench.claims()[0]["owner"], total()), ("python", NEED), "owner and total before")
    write(vm.path, result.xml)
    silent(vm.name, "release", "end", "-", text=result.xml)  # of an earlier life, and late
    same((recorded()[0]["generation"], total()), (result.generation, NEED), "claim and total")
    host.start(vm)
    claim, = bench.claims()
    same((claim["owner"], claim["owner_pid"]), ("libvirt", host.libvirtd.process.pid), "owner")
    same((claim["generation"], claim["state"]), (result.generation, "running"), "claim")
    same(pages_now(), (NEED, 0), "total and free while it runs")
    host.destroy(vm)
    back_as_before(bench, before)
    agent.after_vm_destroy(vm.uuid, result.generation)
    back_as_before(bench, before)
    agent.close()


def through_a_wrapper(bench, host):
    """called from a script at hooks/qemu the claim is libvirtd's, not the script's"""
    before, vm = pools(), huge(bench)
    moved = f"{bench.directory}/hook"
    with replaced(HOOK), script(f"{HOOKS}/qemu", f'{moved} "$@"\nstatus=$?\nexit $status'):
        with open(moved, "xb") as file, open(hook_of_build(), "rb") as built:
            file.write(built.read())
        os.chmod(moved, 0o755)
        host.start(vm)
        claim, = bench.claims()
        same((claim["owner"], claim["owner_pid"]), ("libvirt", host.libvirtd.process.pid), "owner")
        same((claim["state"], pages_now()), ("running", (NEED, 0)), "state, total and free")
        host.kill(vm)
        back_as_before(bench, before)
        host.conf(STATIC)
        host.refused(huge(bench), "use_dynamic_hugepages")


def hook_of_build():
    build = os.path.dirname(os.path.dirname(harness.ctl))
    return f"{build}/host/plugin/50-hugevm"


# --- many at once, and a gap ------------------------------------------------------------------


def many_at_once(bench, host):
    """six VMs started in parallel and ended in two ways, twice, leave the pools as they were"""
    before = pools()
    for _ in range(2):
        vms = [huge(bench) for _ in range(6)]
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            list(threads.map(host.start, vms))
            same((pages_now(), len(recorded())), ((6 * NEED, 0), 6), "pages and claims")
            ends = [host.destroy] * 3 + [host.kill] * 3
            list(threads.map(lambda end, vm: end(vm), ends, vms))
        back_as_before(bench, before)


def last_device_unplugged(bench, _host):
    """release of a VM whose XML no longer mentions huge pages lets go of its claim all the same"""
    before, vm, other = pools(), huge(bench), huge(bench)
    silent(vm.name, "prepare", "begin", "-", text=vm.xml)
    same((total(), len(recorded())), (NEED, 1), "total and claims")
    plain = vm.xml.replace("<hugepages></hugepages>", "")
    check("hugepages" not in plain, f"this tests nothing: {plain}")
    silent(other.name, "release", "end", "-", text=plain.replace(vm.uuid, other.uuid))
    same((total(), len(recorded())), (NEED, 1), "total and claims after another's release")
    silent(vm.name, "release", "end", "-", text=plain.replace(vm.uuid, vm.uuid.upper()))
    back_as_before(bench, before)


if __name__ == "__main__":
    sys.exit(run([
        whole_life, without_hook, persistent_vm, failed_starts, refused_start, daemon_restarts,
        both_die, daemon_dies_in_start, beside_static_pages, static_pages_only, no_mount,
        late_mount, gigantic, property_alone, private_memory, run_through_libvirtd, taken_over,
        through_a_wrapper, many_at_once, last_device_unplugged,
    ]))
