# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts with libvirtd and hugevm on one machine, between which VMs migrate.

installed_host.enter() comes first; each Peer is then a set of namespaces below it (mount, pid,
ipc, uts, net) with its own /run, /etc/libvirt, /etc/hugevm, /var/lib/libvirt and hugetlbfs, so
that neither sees the other's processes, ledger or files. What both share is the kernel: its page
pools, in which each finds the other's pages in foreign use; and /tmp, where the sockets of
migrations and saved VMs are.

As a program this file is the first process of a Peer: it mounts what is the Peer's own, and
reaps. With its end, or the test's, everything in there ends.
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid

import harness
import installed_host
from harness import Failure, check, command_line, read, same, until, write
from installed_host import ENVIRONMENT, SCRATCH, START_S, STOP_S, mount

OWN_COPIES = ("/etc/libvirt", "/etc/hugevm", "/var/lib/libvirt", "/var/log/libvirt")
SIZES = ("/sys/kernel/mm/hugepages", "/sys/devices/system/node/node0/hugepages")
DAEMON_LOG = "/run/libvirtd.log"  # in the Peer


def pid_namespace(pid):
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0


class Peer:
    """A host of its own, libvirtd included; up when the constructor returns."""

    def __init__(self, name, sizes=None):
        """sizes: names of page sizes below /sys that this host offers; None: all."""
        self.name = name
        self.init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--ipc", "--uts",
             "--net", "--fork", "--kill-child", "--mount-proc", sys.executable, __file__, name,
             *([] if sizes is None else ["--only", *sizes])],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,  # unshare's; its child's goes the way of its output
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        same(self.init.stdout.readline(), "ready\n", f"what the first process of {name} says")
        children = f"/proc/{self.init.pid}/task/{self.init.pid}/children"
        self.pid, = map(int, read(children).split())
        self.namespace = pid_namespace(self.pid)
        self.daemon = None
        self.sockets = tempfile.mkdtemp(prefix="hugevm-e2e-")  # which both hosts see
        os.chmod(self.sockets, 0o755)
        write(self.path("/etc/libvirt/qemu.conf"),
              'stdio_handler = "file"\nsecurity_driver = "none"\ncgroup_controllers = []\n')
        write(self.path("/etc/libvirt/libvirtd.conf"),
              f'host_uuid = "{uuid.uuid4()}"\nunix_sock_dir = "{self.sockets}"\n')
        self.conf()
        self.start_daemon()

    def path(self, path):
        """A path of this host, as the test can use it."""
        return f"/proc/{self.pid}/root{path}"

    def enter(self, *command):
        """A command that runs in this host."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--ipc", "--uts", "--net",
                "--wdns=/", *map(str, command)]

    def conf(self, text=harness.DYNAMIC):
        write(self.path("/etc/hugevm/hugevm.conf"), text)

    # libvirtd

    @property
    def uri(self):
        return f"qemu+unix:///system?socket={self.sockets}/libvirt-sock"

    def start_daemon(self):
        with open(self.path(DAEMON_LOG), "a", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",
                 *self.enter("setpriv", "--pdeathsig", "KILL", "/usr/sbin/libvirtd")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=ENVIRONMENT)
        until(self._answers, f"libvirtd of {self.name}", START_S, 0.1)

    def _answers(self):
        check(self.daemon.poll() is None, f"libvirtd of {self.name} ends: "
              + read(self.path(DAEMON_LOG)))
        return self.virsh("list").returncode == 0

    def daemon_pid(self):
        return next(int(name) for name in os.listdir("/proc") if name.isdigit()
                    and command_line(name)[:1] == ["/usr/sbin/libvirtd"]
                    and pid_namespace(name) == self.namespace)

    def end_daemon(self, number=signal.SIGTERM):
        os.kill(self.daemon_pid(), number)
        try:
            self.daemon.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"libvirtd of {self.name} does not end") from error

    def restart_daemon(self, number=signal.SIGTERM):
        self.end_daemon(number)
        self.start_daemon()

    def virsh_command(self, *arguments):
        return ["virsh", "-c", self.uri, *map(str, arguments)]

    def virsh(self, *arguments, status=None, timeout=harness.PATIENCE_S):
        """Runs virsh to its end; status: the exit status that it should have."""
        done = subprocess.run(self.virsh_command(*arguments), text=True, capture_output=True,
                              timeout=timeout, check=False, stdin=subprocess.DEVNULL,
                              env={**os.environ, "LC_ALL": "C"})
        if status is not None:
            same(done.returncode, status, f"exit status on {self.name} of virsh "
                 f"{' '.join(map(str, arguments))} ({done.stderr.strip()})")
        return done

    # VMs and pages

    def qemu(self, vm):
        """The pid of the VM's QEMU on this host, or 0."""
        return next((pid for pid in harness.processes_of(vm.uuid)
                     if pid_namespace(pid) == self.namespace), 0)

    def state(self, vm):
        """What virsh domstate says; "": this host does not know it."""
        return self.virsh("domstate", vm.uuid).stdout.strip()

    def claims(self):
        """Of the ledger: (UUID, state) of each claim."""
        ledger = self.ledger()
        return [(claim["uuid"], claim["state"]) for claim in ledger.get("claims", [])]

    def grown(self):
        return sum(pool["grown_pages"] for pool in self.ledger().get("grown", []))

    def ledger(self):
        try:
            return json.loads(read(self.path("/run/hugevm/ledger.json")))
        except FileNotFoundError:
            return {}

    def run(self, *command, status=(0,)):
        """Runs a command here to its end; its output."""
        done = subprocess.run(self.enter(*command), text=True, capture_output=True, check=False,
                              timeout=harness.PATIENCE_S, stdin=subprocess.DEVNULL)
        check(done.returncode in status, f"{' '.join(command)} on {self.name} ends with "
              f"{done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def findings(self):
        """Of hugevmctl audit."""
        said = self.run("/usr/sbin/hugevmctl", "--json", "audit", status=(0, 1))
        return json.loads(said)["findings"]

    def module(self):
        """The path of the installed module."""
        path, = (glob.glob("/usr/lib*/hugevm/1/hugevm.so")
                 + glob.glob("/usr/lib*/*/hugevm/1/hugevm.so"))
        return path

    def close(self):
        """With the first process of a pid namespace all others are killed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.init.wait()
        self.init.stdout.close()
        shutil.rmtree(self.sockets)


# --- the first process of a Peer ------------------------------------------------------------------


def own_copy(directory, scratch):
    copy = f"{scratch}{directory}"
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    if os.path.isdir(directory):
        subprocess.run(["cp", "-a", directory, copy], check=True)
    else:
        os.makedirs(directory)
        os.mkdir(copy)
    mount(copy, directory, flags=installed_host.MS_BIND)


def offer_only(names, directory, scratch):
    """Of the page sizes that the kernel offers, this host's programs see these alone."""
    seen = f"{scratch}{directory}"
    os.makedirs(seen)
    for name in names:
        os.mkdir(f"{seen}/{name}")
        mount(f"{directory}/{name}", f"{seen}/{name}", flags=installed_host.MS_BIND)
    mount(seen, directory, flags=installed_host.MS_BIND | installed_host.MS_REC)


def own_hugetlbfs(directory):
    """VMs of both hosts have the same numbers, and with them directories in there."""
    while os.path.ismount(directory):
        subprocess.run(["umount", "-l", directory], check=True)
    option = "pagesize=1G" if directory.endswith("-1048576kB") else "pagesize=2M"
    mount("none", directory, "hugetlbfs", data=option)


def be_init(name, sizes):
    os.dup2(1, 2)
    scratch = f"{SCRATCH}/peer-{name}-{os.getppid()}-{uuid.uuid4().hex[:8]}"
    for directory in OWN_COPIES:
        own_copy(directory, scratch)
    for directory in SIZES if sizes is not None else ():
        offer_only(sizes, directory, scratch)
    for line in read("/proc/self/mounts").splitlines():
        words = line.split()
        if words[2] == "hugetlbfs" and words[1].startswith(harness.MOUNT):
            own_hugetlbfs(words[1])
    mount(f"peer-{name}", "/run", "tmpfs", data="mode=755")
    os.mkdir("/run/lock")
    os.chmod("/run/lock", 0o1777)
    subprocess.run(["hostname", name], check=True)
    for directory in ("/etc/libvirt/qemu/networks/autostart", "/etc/libvirt/qemu/autostart",
                      "/etc/libvirt/storage/autostart"):
        for link in os.listdir(directory) if os.path.isdir(directory) else ():
            os.unlink(f"{directory}/{link}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whatever ends here is nobody else's child
    print("ready", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    be_init(sys.argv[1], sys.argv[3:] if "--only" in sys.argv[2:] else None)
