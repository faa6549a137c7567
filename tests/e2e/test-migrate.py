#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that move between two hosts, or into a file and out of it, with libvirt's hook on each.

usage: test-migrate.py HUGEVMCTL HUGEVM.SO [WORD]

Both hosts have the one kernel's pools: what "total" says is the sum of both. Only one of them may
resize these, or each would take the other's writes for an administrator's: alpha has static pages
for one VM, beta grows.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys

import harness
from harness import (DYNAMIC, G1, M2, STATIC, check, end_process, hugetlbfs_of, is_alive, pools,
                     pools_become, read, same, set_total, total, until, write)
from installed_host import Unusable, enter
from libvirt_host import GIGANTIC, NEED, huge, one_line, pages_now
from two_hosts import Peer

ADAPT = f"{DYNAMIC}[hugevm]\nincoming_page_sizes = adapt\n"
HOOKS = "/etc/libvirt/hooks/qemu.d"
FILLED_MIB = 24  # of a VM's memory, so that its migration takes a while
FILLED_FROM = 32 << 20  # above what the firmware uses
ONE_MIB_PER_S = ("--bandwidth", "1")


@contextlib.contextmanager
def two_hosts(pages=NEED, kib=M2, **of_beta):
    """alpha with so many static pages, and beta."""
    set_total(pages, kib)
    with contextlib.closing(Peer("alpha")) as alpha, contextlib.closing(
            Peer("beta", **of_beta)) as beta:
        alpha.conf(STATIC)
        yield alpha, beta


def script(host, name, text):
    path = write(host.path(f"{HOOKS}/{name}"), f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)


def start(host, vm):
    host.virsh("create", vm.path, status=0)
    check(host.qemu(vm), "virsh create succeeds, but there is no QEMU")
    same(host.claims(), [(vm.uuid, "running")], "claims after the start")


def migrate_uri(bench, destination):
    shared = f"{bench.directory}/sockets"
    os.makedirs(shared, exist_ok=True)
    os.chmod(shared, 0o777)
    return f"unix://{shared}/{destination.name}"


def migrate_command(bench, source, destination, vm, *options):
    return source.virsh_command("migrate", "--live", *options, vm.name, destination.uri,
                                "--migrateuri", migrate_uri(bench, destination))


def migrate(bench, source, destination, vm, *options, status=0):
    """Runs to its end; what virsh says on standard error."""
    process = bench.start(migrate_command(bench, source, destination, vm, *options))
    return bench.end(process, status=status)[1]


def guest_memory(pid):
    """Where QEMU has the guest's memory: the address of the first mapping of a hugetlbfs."""
    for line in read(f"/proc/{pid}/maps").splitlines():
        if "/libvirt/qemu" in line:
            return int(line.split("-")[0], 16)
    raise harness.Failure(f"QEMU {pid} maps no file of libvirt's hugetlbfs")


def fill(pid):
    """Something in each page of FILLED_MIB, which then has to be copied."""
    base = guest_memory(pid) + FILLED_FROM
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for offset in range(0, FILLED_MIB << 20, 4096):
            memory.seek(base + offset)
            memory.write(b"filled")


def check_filled(pid):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(guest_memory(pid) + FILLED_FROM + (FILLED_MIB << 20) - 4096)
        same(memory.read(6), b"filled", "the guest's memory that was copied")


def processed_mib(host, vm):
    """How much of its memory a migration has copied so far."""
    said = host.virsh("domjobinfo", vm.uuid).stdout
    found = re.search(r"Memory processed:\s+([0-9.]+) (\S+)", said)
    units = {"B": 1 / (1 << 20), "KiB": 1 / 1024, "MiB": 1, "GiB": 1024}
    return float(found[1]) * units[found[2]] if found else 0


def gone(*hosts):
    """Nothing is left of a VM on these hosts, nor found by audit."""
    for host in hosts:
        until(lambda host=host: not host.claims(), f"{host.name} to let go", 10)
        until(lambda host=host: host.grown() == 0, f"{host.name} to give back", 10)
        same(host.findings(), [], f"what audit finds on {host.name}")


# --- live migration -------------------------------------------------------------------------------


def there_and_back(bench):
    """a VM migrates there and back: claimed before a byte is copied, released after it"""
    vm = huge(bench)
    with two_hosts() as (alpha, beta):
        before = pools()
        start(alpha, vm)
        fill(alpha.qemu(vm))
        # behind our hook, and before QEMU is executed
        script(beta, "60-wait", '[ "$2" = start ] && : > /run/waits && '
               "while [ ! -e /run/go ]; do sleep 0.05; done; exit 0")
        process = bench.start(migrate_command(bench, alpha, beta, vm))
        until(lambda: os.path.exists(beta.path("/run/waits")), "the destination to start QEMU")
        same(beta.claims(), [(vm.uuid, "mounted")], "claims of the destination before its QEMU")
        same(alpha.claims(), [(vm.uuid, "running")], "claims of the source meanwhile")
        same((beta.qemu(vm), processed_mib(alpha, vm)), (0, 0), "QEMU, and MiB that were copied")
        same(pages_now(), (2 * NEED, NEED), "total and free before the copy")
        write(beta.path("/run/go"), "")
        bench.end(process)
        moved(vm, alpha, beta)
        same((pages_now(), beta.grown()), ((2 * NEED, NEED), NEED), "total, free, grown there")
        same(beta.ledger()["claims"][0]["may_hand_over"], False, "handover of an incoming VM")
        migrate(bench, beta, alpha, vm, "--p2p")
        moved(vm, beta, alpha)
        pools_become({**before, M2: (NEED, 0, 0, 0)}, "pools with the VM back")
        alpha.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)


def moved(vm, source, destination):
    same((source.claims(), source.qemu(vm)), ([], 0), f"claims and QEMU of {source.name}")
    same(destination.claims(), [(vm.uuid, "running")], f"claims of {destination.name}")
    same(destination.state(vm), "running", f"state on {destination.name}")
    check_filled(destination.qemu(vm))


def from_embedded_driver(bench):
    """a VM of an agent with the embedded driver migrates to a libvirtd, and the agent gives back"""
    vm = huge(bench)
    with two_hosts() as (alpha, beta):
        before = pools()
        agent = bench.start(alpha.enter(
            sys.executable, f"{os.path.dirname(os.path.abspath(__file__))}/embedded_source.py",
            alpha.module(), "/etc/hugevm/hugevm.conf", vm.path, beta.uri, migrate_uri(bench, beta)),
            stdin=subprocess.PIPE)
        same(agent.stdout.readline(), "runs\n", "what the agent says")
        same((alpha.claims(), pages_now()), ([(vm.uuid, "running")], (NEED, 0)), "claims, pages")
        fill(alpha.qemu(vm))
        agent.stdin.write("\n")
        agent.stdin.flush()
        same(bench.end(agent)[0], "migrated\n", "what the agent says")
        same(beta.claims(), [(vm.uuid, "running")], "claims of the destination")
        check_filled(beta.qemu(vm))
        beta.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)


def of_hugevmctl_run(bench):
    """to hugevmctl run a VM of libvirtd that migrates away has ended; it runs on over there"""
    vm = bench.vm(memory_mib=64)
    with two_hosts() as (alpha, beta):
        before = pools()
        process = bench.start(alpha.enter("/usr/sbin/hugevmctl", "run", vm.path, "-c", alpha.uri,
                                          "-p", f"hugepages={M2}"))
        same(process.stdout.readline(), f"running: '{vm.name}'\n", "what run says")
        fill(alpha.qemu(vm))
        migrate(bench, alpha, beta, vm)
        bench.end(process)
        moved(vm, alpha, beta)
        beta.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)


# --- migrations that fail -------------------------------------------------------------------------


class Underway:
    """A migration from alpha to beta that has copied something, and has more to copy."""

    def __init__(self, bench, alpha, beta, vm):
        self.hosts, self.vm = (alpha, beta), vm
        self.before = (pools(), alpha.ledger(), alpha.qemu(vm))
        self.process = bench.start(migrate_command(bench, alpha, beta, vm, *ONE_MIB_PER_S))
        until(lambda: processed_mib(alpha, vm) >= 1, "something to be copied")
        same(beta.claims(), [(vm.uuid, "running")], "claims of the destination meanwhile")
        same(pages_now(), (2 * NEED, 0), "total and free meanwhile")

    def ended(self, bench):
        """virsh has seen its end, and it has failed; standard error."""
        return bench.end(self.process, status=1)[1]

    def left_as_it_was(self):
        (alpha, beta), vm = self.hosts, self.vm
        pools_become(self.before[0])
        same((alpha.ledger(), alpha.qemu(vm)), self.before[1:], "ledger and QEMU of the source")
        same((alpha.state(vm), beta.qemu(vm)), ("running", 0), "state there, QEMU here")
        gone(beta)


def cancelled(bench):
    """a migration that is aborted, or loses its destination, leaves both sides as they were"""
    vm = huge(bench)
    with two_hosts() as (alpha, beta):
        before = pools()
        start(alpha, vm)
        fill(alpha.qemu(vm))
        migration = Underway(bench, alpha, beta, vm)
        alpha.virsh("domjobabort", vm.uuid, status=0)
        migration.ended(bench)
        migration.left_as_it_was()
        migration = Underway(bench, alpha, beta, vm)
        end_process(beta.qemu(vm))
        migration.ended(bench)
        migration.left_as_it_was()
        check_filled(alpha.qemu(vm))
        alpha.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)


def source_killed(bench):
    """the source's QEMU killed in the middle of a migration: both sides give all back"""
    vm = huge(bench)
    with two_hosts() as (alpha, beta):
        before = pools()
        start(alpha, vm)
        fill(alpha.qemu(vm))
        migration = Underway(bench, alpha, beta, vm)
        end_process(alpha.qemu(vm))
        migration.ended(bench)
        until(lambda: not beta.qemu(vm), "the end of the destination's QEMU", 30)
        gone(alpha, beta)
        pools_become(before)


def daemon_killed(bench):
    """the destination's libvirtd killed in the middle of a migration: its next one gives back"""
    vm = huge(bench)
    with two_hosts() as (alpha, beta):
        before = pools()
        start(alpha, vm)
        fill(alpha.qemu(vm))
        migration = Underway(bench, alpha, beta, vm)
        beta.restart_daemon(signal.SIGKILL)
        migration.ended(bench)
        until(lambda: not beta.qemu(vm), "the end of the destination's QEMU", 30)
        migration.left_as_it_was()
        alpha.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)


def no_room(bench):
    """a destination without room refuses in one line, and the source runs on"""
    vm = huge(bench)
    with two_hosts() as (alpha, beta):
        beta.conf(STATIC)
        start(alpha, vm)
        before = (pools(), alpha.ledger(), alpha.qemu(vm))
        refused(migrate(bench, alpha, beta, vm, status=1), vm.name, f"wants {NEED} pages of 2 MiB",
                "use_dynamic_hugepages = true")
        same((pools(), alpha.ledger(), alpha.qemu(vm)), before, "pools; ledger, QEMU of the source")
        same((alpha.state(vm), beta.state(vm)), ("running", ""), "states")
        gone(beta)


def refused(said, *parts):
    _, mark, ours = said.rpartition("unexpected exit status 1: ")
    check(mark, f"it is not the hook that refuses: {said!r}")
    one_line(ours, *parts)


# --- saved and restored ---------------------------------------------------------------------------


def managed_save(bench):
    """a managed save gives the pages back, and the next start, under another libvirtd, gets them"""
    vm = huge(bench)
    with contextlib.closing(Peer("alpha")) as alpha:
        before = pools()
        alpha.virsh("define", vm.path, status=0)
        alpha.virsh("start", vm.uuid, status=0)
        fill(alpha.qemu(vm))
        alpha.virsh("managedsave", vm.uuid, status=0)
        gone(alpha)
        pools_become(before)
        alpha.restart_daemon()
        alpha.virsh("start", vm.uuid, status=0)
        same(alpha.claims(), [(vm.uuid, "running")], "claims")
        # what is restored is not handed over to the kernel: surplus 0
        pools_become({**before, M2: (NEED, 0, 0, 0)}, "pools while it runs")
        check_filled(alpha.qemu(vm))
        alpha.virsh("destroy", vm.uuid, status=0)
        gone(alpha)
        pools_become(before)


def saved_to_a_file(bench):
    """a restore with too few pages is refused and the file stays, until there are enough"""
    vm, file = huge(bench), f"{bench.directory}/saved"
    with contextlib.closing(Peer("alpha")) as alpha:
        before = pools()
        start(alpha, vm)
        fill(alpha.qemu(vm))
        alpha.virsh("save", vm.uuid, file, status=0)
        gone(alpha)
        pools_become(before)
        alpha.conf(STATIC)
        alpha.restart_daemon(signal.SIGKILL)
        refused(alpha.virsh("restore", file, status=1).stderr, "wants 32 pages of 2 MiB",
                "use_dynamic_hugepages = true")
        gone(alpha)
        same((pools(), alpha.qemu(vm)), (before, 0), "pools and QEMU after the refusal")
        alpha.conf()
        alpha.virsh("restore", file, status=0)
        same(alpha.claims(), [(vm.uuid, "running")], "claims")
        check_filled(alpha.qemu(vm))
        end_process(alpha.qemu(vm))
        gone(alpha)
        pools_become(before)


# --- page sizes that the other host has not -------------------------------------------------------

ONLY_2M = ("hugepages-2048kB",)
GIB_IN_2M = 512


def other_page_size(bench):
    """a VM with a page of 1 GiB goes to a host without them by migration and restore, if told to"""
    vm, file = huge(bench, memory_mib=1024, page=GIGANTIC), f"{bench.directory}/saved"
    with hugetlbfs_of(G1), two_hosts(1, G1, sizes=ONLY_2M) as (alpha, beta):
        before = pools()
        start(alpha, vm)
        fill(alpha.qemu(vm))
        unchanged = (pools(), alpha.ledger(), alpha.qemu(vm))
        refused(migrate(bench, alpha, beta, vm, status=1), "needs huge pages of 1 GiB",
                "this host offers 2 MiB")
        same((pools(), alpha.ledger(), alpha.qemu(vm)), unchanged, "what is, with keep")
        beta.conf(ADAPT)
        migrate(bench, alpha, beta, vm)
        moved(vm, alpha, beta)
        on_small_pages(beta, vm)
        beta.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)
        start(alpha, vm)
        fill(alpha.qemu(vm))
        alpha.virsh("save", vm.uuid, file, status=0)
        beta.conf()
        refused(beta.virsh("restore", file, status=1).stderr, "needs huge pages of 1 GiB")
        beta.conf(ADAPT)
        beta.virsh("restore", file, status=0)
        check_filled(beta.qemu(vm))
        on_small_pages(beta, vm)
        beta.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)


def on_small_pages(host, vm, pages=GIB_IN_2M, element="<page size='2048' unit='KiB'/>"):
    same(sum(harness.smaps_of_guest(host.qemu(vm), M2)), pages * M2, "KiB on pages of 2 MiB")
    harness.holds(host.virsh("dumpxml", vm.uuid, status=0).stdout, element)


CELL = "<maxMemory slots='2' unit='GiB'>4</maxMemory><cpu><numa>" \
       "<cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu>" \
       "<features><acpi/></features>"
DIMM = "<memory model='dimm'><source><pagesize unit='GiB'>1</pagesize></source><target>" \
       "<size unit='GiB'>1</size><node>0</node></target></memory>"


def other_page_size_of_a_device(bench):
    """a memory device with a page of 1 GiB gets small ones on a host without them, if told to"""
    vm = huge(bench, memory_mib=1088, page="<page size='2' unit='M'/>", inside=CELL, devices=DIMM)
    with hugetlbfs_of(G1), two_hosts(1, G1, sizes=ONLY_2M) as (alpha, beta):
        set_total(NEED)
        before = pools()
        start(alpha, vm)
        beta.conf(ADAPT)
        migrate(bench, alpha, beta, vm)
        same((alpha.claims(), beta.claims()), ([], [(vm.uuid, "running")]), "claims")
        on_small_pages(beta, vm, NEED + GIB_IN_2M, "<pagesize unit='KiB'>2048</pagesize>")
        beta.virsh("destroy", vm.uuid, status=0)
        gone(alpha, beta)
        pools_become(before)


def no_page_size_will_do(bench):
    """a host without huge pages refuses an incoming VM before prepare, if told to adapt"""
    vm = huge(bench, page="<page size='2' unit='M'/>")
    with two_hosts(sizes=()) as (alpha, beta):
        beta.conf(ADAPT)
        start(alpha, vm)
        before = (pools(), alpha.ledger(), alpha.qemu(vm))
        refused(migrate(bench, alpha, beta, vm, status=1), "pages of 2 MiB",
                "this host offers none", "what to do:")
        same((pools(), alpha.ledger(), alpha.qemu(vm)), before, "pools; ledger, QEMU of the source")
        gone(beta)


# --- memory in files ------------------------------------------------------------------------------

FILES = "[hugevm]\nfile_backed_memory = 96\nincoming_page_sizes = adapt\n"
FILES_DIRECTORY = "/var/lib/libvirt/qemu/ram/"
IN_FILES = ("<memoryBacking><source type='file'/><access mode='shared'/>"
            "<allocation mode='immediate'/></memoryBacking>")


def memory_in_files(bench):
    """a VM is refused by a host that keeps memory elsewhere than its own does, before its QEMU"""
    vm, filed = bench.vm(memory_mib=64), bench.vm(memory_mib=64, inside=IN_FILES)
    with two_hosts(0) as (alpha, beta):
        beta.conf(FILES)
        for one in (vm, filed):
            alpha.virsh("create", one.path, status=0)
        refused(migrate(bench, alpha, beta, vm, status=1), f"VM '{vm.name}' comes with memory that "
                "is not in files", "what to do: take it to a host without file_backed_memory")
        same((alpha.state(vm), beta.claims()), ("running", []), "state; claims of the destination")
        migrate(bench, alpha, beta, filed)
        same((alpha.qemu(filed), beta.claims()), (0, [(filed.uuid, "running")]),
             "QEMU at the source; claims of the destination")
        check(FILES_DIRECTORY in read(f"/proc/{beta.qemu(filed)}/maps"), "it is not in files")
        refused(migrate(bench, beta, alpha, filed, status=1), f"VM '{filed.name}' comes with its "
                "memory in files, but this host has no file_backed_memory")
        alpha.conf(FILES)
        migrate(bench, beta, alpha, filed)
        same((alpha.claims(), beta.claims()), ([(filed.uuid, "running")], []), "claims")
        for one in (vm, filed):
            alpha.virsh("destroy", one.uuid, status=0)
        gone(alpha, beta)


# --- libvirtd comes back --------------------------------------------------------------------------


def restart_around(host, vm):
    """libvirtd answers before it has its VMs again, and one that is ended until then ends them."""
    script(host, "60-seen", '[ "$2" != reconnect ] || : > /run/reconnected')
    host.restart_daemon()
    until(lambda: os.path.exists(host.path("/run/reconnected")), "libvirtd to see its VM", 30)
    os.unlink(host.path("/run/reconnected"))
    same(host.state(vm), "running", "state")  # waits for the lock of the VM


def reconnected(bench):
    """of a VM whose start was not reported to its end, a libvirtd that comes back tells the rest"""
    vm = huge(bench)
    with contextlib.closing(Peer("alpha")) as alpha:
        before = pools()
        module = alpha.module()
        # in the middle of an update of hugevm, say
        script(alpha, "40-away", f'[ "$2" != started ] || mv {module} /run/away.so')
        alpha.virsh("create", vm.path, status=0)
        same(alpha.claims(), [(vm.uuid, "mounted")], "claims after a start without its last call")
        restart_around(alpha, vm)
        same(alpha.claims(), [(vm.uuid, "mounted")], "claims without a module")
        check(is_alive(alpha.qemu(vm)), "the VM has died")
        alpha.run("mv", "/run/away.so", module)
        os.unlink(alpha.path(f"{HOOKS}/40-away"))
        for conf in (DYNAMIC, "[hugevm]\nthis is no key\n", DYNAMIC):
            alpha.conf(conf)
            restart_around(alpha, vm)
            same(alpha.claims(), [(vm.uuid, "running")], "claims after the restart")
            check(is_alive(alpha.qemu(vm)), "the VM has died")
        alpha.virsh("destroy", vm.uuid, status=0)
        gone(alpha)
        pools_become(before)


def killed_before_started(bench):
    """libvirtd killed between QEMU's start and the hook's call: the next one sets all right"""
    vm = huge(bench)
    with contextlib.closing(Peer("alpha")) as alpha:
        before = pools()
        script(alpha, "40-slow", '[ "$2" != started ] || { echo $$ > /run/pid; exec sleep 60; }')
        process = bench.start(alpha.virsh_command("create", vm.path))
        until(lambda: os.path.exists(alpha.path("/run/pid")), "the call")
        same(alpha.claims(), [(vm.uuid, "mounted")], "claims before it")
        alpha.end_daemon(signal.SIGKILL)
        alpha.run("sh", "-c", "kill -9 $(cat /run/pid)")
        bench.end(process, status=1)
        os.unlink(alpha.path(f"{HOOKS}/40-slow"))
        alpha.start_daemon()
        # some libvirts end a VM whose start they did not finish, others go on with it
        print(f"# then libvirt says of it: {alpha.state(vm) or 'nothing'}")
        until(lambda: not alpha.qemu(vm) or alpha.claims() == [(vm.uuid, "running")],
              "libvirtd to see its VM", 30)
        same(alpha.claims(), [(vm.uuid, "running")] if alpha.qemu(vm) else [], "claims after it")
        if alpha.qemu(vm):
            alpha.virsh("destroy", vm.uuid, status=0)
        gone(alpha)
        pools_become(before)


if __name__ == "__main__":
    build = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[1])))
    try:
        enter(f"{build}/host")
    except Unusable as error:
        text = "\n# ".join(str(error).splitlines())
        print(f"1..1\n# {text}\nnot ok 1 - the machine can be made an installed host")
        sys.exit(1)
    sys.exit(harness.main([
        there_and_back, from_embedded_driver, of_hugevmctl_run, cancelled, source_killed,
        daemon_killed, no_room, managed_save, saved_to_a_file, other_page_size,
        other_page_size_of_a_device, no_page_size_will_do, memory_in_files, reconnected, killed_before_started,
    ]))
