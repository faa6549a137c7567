#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Custody of pages around hugevm's vault: who finds it, who may use it, and what is in its way.

usage: test-vault.py HUGEVMCTL HUGEVM.SO [WORD]

Agents, launchers and hugevmctl are in one mount namespace or in several that share /run and
/dev/hugepages, and may lack rights or file descriptors; others mount on the vault's directory or
shrink the pool. A VM that is launched has its pages, a refusal says what is true, and in the end
all is as before. The host program's mapper stands for QEMU: only the pools matter here.
"""

import contextlib
import os
import resource
import subprocess
import sys

import harness
import installed_host
import traces
from harness import (DYNAMIC, M2, MOUNT, STATE, STATIC, Failure, check, command_line, end_process,
                     holds, is_alive, knob, main, pools, pools_become, processes_of, read, same,
                     set_total, smaps_of_guest, until, write)
from hugevm_host import Host as InProcessHost, HugevmError
from libvirt_host import recorded
from thief_process import Thief

CAPABILITIES = "sys_admin", "sys_chroot"  # that it takes to enter the vault
FOREIGN = "foreign"
NEED = 8  # pages of 2 MiB of a VM
HOLD = 4  # pages at most in a thief's hands
ENOUGH = 500  # attempts of a thief: fewer show nothing
MS_SHARED = 0x100000
PROPAGATIONS = "slave", "private"
VAULT_DIRECTORY = os.path.dirname(traces.VAULT)
END_S = 10
FEW = 9  # tries, with 0, 1, ... free descriptors; the last has enough


# --- mount namespaces ---------------------------------------------------------------------------


class Namespace:
    """A mount namespace of its own that shares the file systems; lives as long as a process."""

    def __init__(self, bench, propagation):
        self.process = bench.start(["unshare", "--mount", "--propagation", propagation,
                                    "sleep", "1000"])
        until(lambda: command_line(self.process.pid)[:1] == ["sleep"], "a mount namespace", END_S)
        self.within = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt"]

    def end(self):
        end(self.process)


def mounts(space=None):
    """Of each mount in a mount namespace (None: this one): (id, root, directory, source)."""
    pid = "self" if space is None else space.process.pid
    rows = [line.split() for line in read(f"/proc/{pid}/mountinfo").splitlines()]
    return [(row[0], row[3], row[4], row[row.index("-") + 2]) for row in rows]


def vaults(*spaces):
    """All that are seen in this mount namespace and in those."""
    return {root for space in (None, *spaces) for _, root, directory, _ in mounts(space)
            if directory == traces.VAULT}


def launch_mounts(space):
    return [directory for _, _, directory, source in mounts(space)
            if source.startswith(traces.MOUNT_PREFIX)]


def kept(space=None):
    """The UUIDs of the VMs whose guards wait in the vault that is seen in a mount namespace."""
    path = traces.VAULT if space is None else f"/proc/{space.process.pid}/root{traces.VAULT}"
    return sorted(name.split(":")[0] for name in traces.in_vault(path))


# --- hosts --------------------------------------------------------------------------------------


def end(process):
    process.kill()
    process.communicate()


def reserved():
    return pools()[M2][3]


def state(vm):
    """Of its claim, as it is recorded."""
    return next((claim["state"] for claim in recorded() if claim["uuid"] == vm.uuid), None)


class Machine:
    """VMs, each with its directory for memory files, and the host program for them."""

    def __init__(self, bench, text=STATIC):
        self.bench = bench
        self.conf = bench.conf(text)
        self.program = f"{os.path.dirname(harness.ctl)}/../tests/kernel/host"
        self.spaces = []

    def space(self, propagation):
        self.spaces.append(Namespace(self.bench, propagation))
        return self.spaces[-1]

    def vm(self):
        vm = self.bench.vm(memory_mib=2 * NEED,
                           inside="<memoryBacking><hugepages/></memoryBacking>")
        vm.directory = f"{MOUNT}/{vm.name}"
        os.mkdir(vm.directory, 0o700)
        return vm

    def _host(self, vm, *words):
        return [self.program, harness.module, self.conf, "launches", "dir", vm.directory, *words]

    def claim(self, vm, within=()):
        """An agent that has claimed pages for the VM, and lives."""
        agent = self.bench.start([*within, *self._host(vm, "before", vm.path, "hold")])
        said = agent.stdout.readline()
        if said != "before: OK\n":
            agent.kill()
            raise Failure(f"an agent does not claim: {said}{agent.communicate()}")
        same(agent.stdout.readline(), "holding\n", "an agent says")
        same(state(vm), "guarded", "state after the claim")
        return agent

    def tell(self, vm, *words, within=(), status=0):
        """What a host says that does so much for a VM that has been claimed."""
        done = subprocess.run([*within, *self._host(vm, "vm", vm.uuid, *words)], text=True,
                              capture_output=True, timeout=harness.PATIENCE_S, check=False)
        same(done.returncode, status, f"status of {' '.join(words)} ({done.stdout}{done.stderr})")
        return done.stdout

    def launch(self, vm, within=()):
        """From its guard to a VM that runs on huge pages."""
        self.tell(vm, "launching", within=within)
        same(state(vm), "mounted", "state after the launch")
        self.tell(vm, "map", f"2M:{NEED}", "started", within=within)
        same((state(vm), sum(smaps_of_guest(vm.qemu(), M2))), ("running", NEED * M2),
             "state, and KiB on huge pages")

    def drain(self):
        self.bench.ctl("reconcile", conf=self.conf, status=0)

    def end_all(self):
        """VMs and agents; mount namespaces live on."""
        for process in self.bench.started:
            if process not in [space.process for space in self.spaces]:
                end(process)
        for vm in self.bench.vms:
            for pid in processes_of(vm.uuid):
                end_process(pid)
                until(lambda pid=pid: not is_alive(pid), "a VM's end", END_S)

    def all_back(self, before):
        """One drain on the host, and nothing is left in any mount namespace."""
        self.drain()
        pools_become(before)
        same((traces.guards(), self.bench.claims()), ([], []), "guards, claims left")
        for space in (None, *self.spaces):
            same((kept(space), launch_mounts(space)), ([], []), "in the vault, launch mounts left")

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.end_all()
        for space in self.spaces:
            space.end()
        traces.remove_all()
        for vm in self.bench.vms:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(vm.directory)


# --- several mount namespaces -------------------------------------------------------------------


def beside_thief(machine, launches):
    """Launches each VM from where it says, while a thief takes whatever he gets."""
    with Thief(M2, HOLD) as thief:
        thief.go()
        for vm, within in launches:
            machine.launch(vm, within)
        thief.stop()
    print(f"# {len(launches)} launches: {thief.attempts} attempts, {thief.got} got")
    same(thief.got, 0, "pages that the thief got")
    check(thief.attempts >= ENOUGH, f"the thief tried {thief.attempts} times only")


def agents_claim(bench):
    """what an agent in a mount namespace of its own claims, the host launches, beside a thief"""
    for propagation in PROPAGATIONS:
        set_total(2 * NEED)
        before = pools()
        with Machine(bench) as machine:
            space = machine.space(propagation)
            first, second = machine.vm(), machine.vm()
            machine.claim(first, space.within)
            machine.claim(second)
            same(kept(space), sorted([first.uuid, second.uuid]), "guards in the agent's vault")
            beside_thief(machine, [(first, ()), (second, space.within)])
            same(len(vaults(space)), 1, "vaults")
            machine.end_all()
            machine.all_back(before)


def hosts_claim(bench):
    """what the host claims, agents in mount namespaces older and newer than the vault launch"""
    for propagation in PROPAGATIONS:
        set_total(2 * NEED)
        before = pools()
        with Machine(bench) as machine:
            older = machine.space(propagation)
            first, second = machine.vm(), machine.vm()
            machine.claim(first)
            newer = machine.space(propagation)
            machine.claim(second, newer.within)
            same(kept(), sorted([first.uuid, second.uuid]), "guards in the host's vault")
            beside_thief(machine, [(first, older.within), (second, newer.within)])
            same(len(vaults(older, newer)), 1, "vaults")
            machine.end_all()
            machine.all_back(before)


def agent_killed(bench):
    """a drain on the host finds what an agent was killed with whose mount namespace lives on"""
    for propagation in PROPAGATIONS:
        before = pools()
        with Machine(bench, DYNAMIC) as machine:
            space, vm = machine.space(propagation), machine.vm()
            agent = machine.claim(vm, space.within)
            end(agent)
            same((kept(space), reserved()), ([vm.uuid], NEED), "guards, pages kept after the kill")
            machine.all_back(before)
            same(reserved(), 0, "pages kept after the drain")


def namespace_gone(bench):
    """a mount namespace that ends takes its vault along, and the next claim makes one again"""
    before = pools()
    with Machine(bench, DYNAMIC) as machine:
        space, first, second = machine.space("slave"), machine.vm(), machine.vm()
        agent = machine.claim(first, space.within)
        same(kept(space), [first.uuid], "guards in the agent's vault")
        end(agent)
        space.end()
        machine.spaces.clear()
        until(lambda: reserved() == 0, "the namespace's end", END_S)
        machine.all_back(before)
        machine.claim(second)
        same((kept(), traces.segments(), reserved()), ([second.uuid], [], NEED),
             "guards in the host's vault, segments, pages kept")
        machine.launch(second)
        machine.end_all()
        machine.all_back(before)


# --- what others put in the vault's way ---------------------------------------------------------


@contextlib.contextmanager
def mounted_on_vault():
    """Somebody's file system; gives what is to stay as it is: all mounts on the directory."""
    subprocess.run(["mount", "-t", "tmpfs", FOREIGN, VAULT_DIRECTORY], check=True)
    try:
        yield mounts_on_vault()
    finally:
        while FOREIGN in [mount[3] for mount in mounts_on_vault()]:
            subprocess.run(["umount", "--lazy", VAULT_DIRECTORY], check=True)


def mounts_on_vault():
    return [mount for mount in mounts() if mount[2].startswith(VAULT_DIRECTORY)]


def foreign_mount(bench):
    """somebody's mount on the vault's directory stays, and hides the guards below it for a while"""
    before = pools()
    with Machine(bench, DYNAMIC) as machine:
        first, second = machine.vm(), machine.vm()
        machine.claim(first)
        same(kept(), [first.uuid], "guards in the vault")
        with mounted_on_vault() as found:
            machine.claim(second)
            same((len(traces.segments()), reserved()), (1, 2 * NEED), "segments, pages kept")
            machine.launch(second)
            for said in (machine.tell(first, "launching", status=1),
                         bench.ctl("reconcile", conf=machine.conf, status=3).stderr):
                holds(said, f"unmount what others have mounted on {VAULT_DIRECTORY}")
            same(mounts_on_vault(), found, "mounts on the vault's directory")
        same(kept(), [first.uuid], "guards in the vault")
        machine.launch(first)
        machine.end_all()
        machine.all_back(before)


@contextlib.contextmanager
def no_vault():
    """Nor a directory for one: guards are segments."""
    os.makedirs(STATE, exist_ok=True)
    write(VAULT_DIRECTORY, "")
    try:
        yield
    finally:
        os.unlink(VAULT_DIRECTORY)


def shrunk_pool(bench):
    """a VM whose guard is a segment has its pages after its administrator has written 0"""
    set_total(2 * NEED)
    with no_vault(), Machine(bench, DYNAMIC) as machine:
        other, vm = machine.vm(), machine.vm()
        machine.claim(other)
        machine.launch(other)
        machine.claim(vm)
        same(len(traces.segments()), 1, "segments")
        write(knob(M2), "0")
        same(pools()[M2], (2 * NEED, NEED, 2 * NEED, NEED), "total, free, surplus and reserved")
        machine.launch(vm)
        machine.end_all()
        # what stayed for the VM's sake counts as grown, and he has asked for none
        machine.all_back({**pools(), M2: (0, 0, 0, 0)})


# --- too few rights, too few files --------------------------------------------------------------


def without(capability):
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all",
            f"--bounding-set=-{capability}"]


def refused_launch(machine, capability):
    """A VM whose launcher lacked a capability, and its agent."""
    vm = machine.vm()
    agent = machine.claim(vm)
    kept_before = reserved()
    said = machine.tell(vm, "launching", within=without(capability), status=1)
    holds(said, "vault", f"CAP_{capability.upper()}")
    same((traces.launch_mounts(), reserved()), ([], kept_before), "launch mounts, pages kept")
    return vm, agent


def few_rights(bench):
    """who may not enter the vault cannot launch from it, is told so, and loses no page"""
    before = pools()
    with Machine(bench, DYNAMIC) as machine:
        for capability in CAPABILITIES:
            vm, _ = refused_launch(machine, capability)
            machine.tell(vm, "failed")
            machine.all_back(before)
            _, agent = refused_launch(machine, capability)
            end(agent)
            machine.all_back(before)


def rights_come_later(bench):
    """a launch that was refused for lack of rights works with all of them"""
    before = pools()
    with Machine(bench, DYNAMIC) as machine:
        for capability in CAPABILITIES:
            vm, _ = refused_launch(machine, capability)
            machine.launch(vm)
            machine.end_all()
            machine.all_back(before)


@contextlib.contextmanager
def few_descriptors(free):
    """This process may open so many files, and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        for number in opened[len(opened) - free:]:
            os.close(number)
        del opened[len(opened) - free:]
        yield
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def refusal(call, vm, result, free, **options):
    """Of a call with so many descriptors that are free: its words, or None."""
    with few_descriptors(free):
        try:
            call(vm.uuid, result.generation, **options)
        except HugevmError as error:
            return str(error)
    return None


def launch_refused(agent, vm, result, free):
    """A launch with few descriptors: does it work, or say why not?"""
    said = refusal(agent.vm_launching, vm, result, free, memory_directories=[vm.directory])
    if said is None:
        same((state(vm), traces.launch_mounts()), ("mounted", [vm.directory]),
             f"state, launch mounts after a launch with {free} descriptors")
    else:
        holds(said, "Too many open files")
    return said is not None


def end_refused(agent, vm, result, free, before):
    """Are the pages back when it says so? If not, then with enough descriptors."""
    said = refusal(agent.vm_start_failed, vm, result, free)
    if said is None:
        pools_become(before, f"pools after vm_start_failed with {free} descriptors")
        return False
    holds(said, "Too many open files")
    if state(vm) is not None:  # its agent lives, and has not been told otherwise
        agent.vm_start_failed(vm.uuid, result.generation)
    return True


def few_files(bench):
    """a launch or a clean-up that lacks file descriptors says so, or does what it says"""
    before = pools()
    refused = []
    with Machine(bench, DYNAMIC) as machine:
        agent = InProcessHost(harness.module, [machine.conf])
        for free in range(FEW):
            vm = machine.vm()
            result = agent.before_vm_start(vm.xml, {"hugepages": str(M2)})
            same(state(vm), "guarded", "state after the claim")
            refused.append((launch_refused(agent, vm, result, free),
                            end_refused(agent, vm, result, free, before)))
            machine.all_back(before)
        agent.close()
    print(f"# refused with 0, 1, ... descriptors (launch, its end): {refused}")
    same((refused[0], refused[-1]), ((True, True), (False, False)), "the descriptors' effect")


# --- main ---------------------------------------------------------------------------------------


def enter():
    """A mount namespace and a /run of our own; mounts propagate from here, as on a host."""
    if os.environ.get("HUGEVM_E2E") != "1" or os.geteuid() != 0:
        return
    installed_host.not_in_use()
    installed_host.succeeds(installed_host.libc.unshare(installed_host.CLONE_NEWNS),
                            "cannot have a mount namespace")
    installed_host.mount("none", "/", flags=installed_host.MS_REC | installed_host.MS_PRIVATE)
    installed_host.fresh_run()
    installed_host.mount("none", "/", flags=installed_host.MS_REC | MS_SHARED)


if __name__ == "__main__":
    enter()
    sys.exit(main([agents_claim, hosts_claim, agent_killed, namespace_gone, foreign_mount,
                   shrunk_pool, few_rights, rights_come_later, few_files]))
