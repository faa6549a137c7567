# SPDX-License-Identifier: LGPL-2.1-or-later
"""Open vSwitch with DPDK beside VMs: a switch on reserved pages, to which vhost-user NICs connect.

    host.conf(reserving())
    with switch(bench) as ovs:
        vms = pair(bench, ovs, SHARED, MEMFD)
        ... start them ...
        wait_answers(vms)

The pages are static ones that the configuration reserves for it; a port is a client of the socket
that the VM's QEMU opens. All that Open vSwitch keeps is below the directory of the test, its
sockets, its database and its logs; its network devices are in a network namespace of their own.
Nothing of the machine's own Open vSwitch is read or run, if there is one, and no alternative or
service has to be set up: the programs are called by their paths.

DPDK runs as Open vSwitch wants it by default, without files on hugetlbfs: when the switch ends, its
pages are free at once, and only whoever respects the reservation leaves them to it.
"""

import contextlib
import os
import re
import signal
import subprocess

import guest_linux
import harness
from harness import DYNAMIC, M2, check, pools, read, same, set_total, until, write
from installed_host import ENVIRONMENT
from libvirt_host import recorded

VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"  # Debian's, in its own package
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
PAGES = 96  # of 2 MiB: what DPDK needs for two ports of 1500 bytes, with little to spare
BRIDGE = "br0"
VM_MIB = 128
VM_PAGES = VM_MIB // 2
START_S = 30
STOP_S = 10
PING_S = 60
PRIVATE = "<memoryBacking><hugepages/></memoryBacking>"
MEMFD = "<memoryBacking><hugepages/><source type='memfd'/><access mode='shared'/></memoryBacking>"
SHARED = "<memoryBacking><hugepages/><access mode='shared'/></memoryBacking>"


def reserving(pages=PAGES, conf=DYNAMIC):
    return f"{conf}[hugevm]\nreserved = ovs=size:2M,count:{pages},node:0\n"


class Ovs:
    """A switch; it runs from set_up() on."""

    def __init__(self, directory, pages=PAGES, ports=2):
        check(os.path.exists(VSWITCHD), f"there is no {VSWITCHD}: see the packages in bootstrap.sh")
        self.directory = directory
        self.ports = range(1, ports + 1)
        self.pages = pages
        self.log = f"{directory}/vswitchd.log"
        self.begin = 0  # of what it says, in its log, since it was started
        self.database = self.process = None

    def set_up(self):
        os.makedirs(f"{self.directory}/sockets")
        os.chmod(f"{self.directory}/sockets", 0o777)  # QEMU's user makes them
        self._start_database()
        self._configure()
        self.start()

    # --- its processes

    def _environment(self):
        places = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        return {**ENVIRONMENT, **dict.fromkeys(places, self.directory)}

    def _spawn(self, *command):
        """It dies with the test."""
        with open(f"{self.directory}/said", "a", encoding="utf-8") as said:
            return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command],
                                    stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/",
                                    env=self._environment())

    def _start_database(self):
        database, remote = f"{self.directory}/conf.db", f"{self.directory}/db.sock"
        subprocess.run(["ovsdb-tool", "create", database, SCHEMA], env=self._environment(),
                       check=True)
        self.database = self._spawn("ovsdb-server", database, f"--remote=punix:{remote}",
                                    f"--log-file={self.directory}/ovsdb.log", "-vconsole:off")
        until(lambda: os.path.exists(remote), "the switch's database", START_S)

    def vsctl(self, *words):
        done = subprocess.run(["ovs-vsctl", f"--db=unix:{self.directory}/db.sock",
                               f"--timeout={START_S}", *map(str, words)], text=True,
                              capture_output=True, env=self._environment(), check=False)
        same(done.returncode, 0, f"exit status of ovs-vsctl {' '.join(words)} ({done.stderr})")
        return done.stdout

    def _configure(self):
        mib = 2 * self.pages
        options = {"dpdk-init": "true", "dpdk-socket-mem": mib, "dpdk-socket-limit": mib,
                   "dpdk-extra": "--no-pci --no-telemetry", "per-port-memory": "true",
                   # the polling thread rests when there are no packets
                   "pmd-cpu-mask": hex(1 << max(os.sched_getaffinity(0))), "pmd-maxsleep": 500}
        words = ["--no-wait", "init", "--", "set", "Open_vSwitch", "."]
        words += [f'other_config:{key}="{value}"' for key, value in options.items()]
        words += ["--", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]
        for port in self.ports:
            words += ["--", "add-port", BRIDGE, f"vm{port}", "--", "set", "interface", f"vm{port}",
                      "type=dpdkvhostuserclient",
                      f"options:vhost-server-path={self.socket(port)}"]
        self.vsctl(*words)

    def start(self):
        self.begin_start()
        self.wait_up()

    def begin_start(self):
        self.begin = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        self.process = self._spawn("unshare", "--net", VSWITCHD,
                                   f"unix:{self.directory}/db.sock", f"--log-file={self.log}",
                                   "-vconsole:off")

    def wait_up(self):
        """Until its ports are there."""
        until(lambda: self._has_ports() or not self.is_running(), "the switch", START_S)
        check(self.is_running(), f"the switch has ended: {self.said()[-1500:]}")

    def _has_ports(self):
        said = self.said()
        return all(f"added interface vm{port} on port" in said for port in self.ports)

    def stop(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def standing_still(self):
        """It neither polls nor lets go of anything for the time."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def close(self):
        for process in (self.process, self.database):
            if process is not None:
                process.kill()
                process.wait()

    # --- what is seen of it

    def said(self):
        """Its log since it was started."""
        if not os.path.exists(self.log):
            return ""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.begin)
            return log.read()

    def packets(self):
        """That it has received from each port's VM, since it was started; of none it says '?'."""
        said = subprocess.run(["ovs-ofctl", "--names", "dump-ports", BRIDGE], text=True, check=True,
                              capture_output=True, env=self._environment()).stdout
        counts = dict(re.findall(r"port +(\w+): rx pkts=(\d+)", said))
        return [int(counts.get(f"vm{port}", 0)) for port in self.ports]

    def is_running(self):
        return self.process.poll() is None

    def is_connected(self, port):
        changes = re.findall(f"vHost Device '{self.socket(port)}' .*has been (added|removed)",
                             self.said())
        return changes[-1:] == ["added"]

    def fails_to_map(self, port):
        """It says that it cannot map the memory of the port's VM, and does without the VM."""
        begin = f"VHOST_CONFIG: ({self.socket(port)})"
        return re.search(re.escape(begin) + r" mmap failed \(Cannot allocate memory\)(.*\n)*.*"
                         + re.escape(begin) + ".* VHOST_USER_SET_MEM_TABLE failed", self.said())

    def mapped(self):
        """Pages of 2 MiB that it maps: (its own, those of VMs)."""
        own = of_vms = size_kib = 0
        is_of_vm = False
        for line in read(f"/proc/{self.process.pid}/smaps").splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                path = words[5] if len(words) > 5 else ""
                # where libvirt has QEMU's files, and how QEMU names a memfd
                is_of_vm = "/libvirt/qemu" in path or path.startswith("/memfd:memory-backend")
            elif words[0] == "Size:":
                size_kib = int(words[1])
            elif words[:2] == ["KernelPageSize:", str(M2)] and is_of_vm:
                of_vms += size_kib // M2
            elif words[:2] == ["KernelPageSize:", str(M2)]:
                own += size_kib // M2
        return own, of_vms

    # --- VMs on it

    def socket(self, port):
        return f"{self.directory}/sockets/{port}"

    def nic(self, port):
        return (f"<interface type='vhostuser'><mac address='{mac(port)}'/>"
                f"<source type='unix' path='{self.socket(port)}' mode='server'/>"
                "<model type='virtio'/><rom enabled='no'/></interface>")

    def vm(self, bench, port, files=None, inside=""):
        """A VM on a port; files: of a Linux that pings the VM on the other port."""
        vm = bench.vm(memory_mib=VM_MIB, inside=inside, devices=self.nic(port))
        vm.log = f"{bench.directory}/{vm.name}.log"
        if files is not None:
            vm.xml = guest_linux.boot(vm.xml, files, vm.log, guest_linux.PING,
                                      address=f"10.0.0.{port}", peer=f"10.0.0.{3 - port}")
            write(vm.path, vm.xml)
        return vm


def mac(port):
    return f"52:54:00:00:00:{port:02x}"


def pair(bench, ovs, *insides):
    """A VM on each of two ports, with a Linux that pings the other; insides: their memory."""
    build = os.path.dirname(os.path.dirname(harness.ctl))
    files = guest_linux.make_files(f"{build}/kernel", bench.directory, guest_linux.PING)
    return [ovs.vm(bench, port, files, inside) for port, inside in zip(ovs.ports, insides)]


def wait_answers(vms):
    """Until each has had one more answer from the other."""
    before = [guest_linux.times_said(vm.log, "answered") for vm in vms]
    for vm, count in zip(vms, before):
        until(lambda vm=vm, count=count: guest_linux.times_said(vm.log, "answered") > count,
              "an answer to a guest's ping", PING_S, 0.05)


def back_as_before(bench, before):
    """The switch lets go of a VM's memory a moment after its end."""
    def is_back():
        bench.ctl("reconcile", status=0)
        return pools() == before

    until(is_back, "pools as before", 10, 0.1)
    same(recorded(), [], "claims")


@contextlib.contextmanager
def switch(bench, ports=2, pages=PAGES):
    """A switch that has all the pages of 2 MiB that there are."""
    set_total(pages)
    ovs = Ovs(f"{bench.directory}/ovs", pages, ports)
    try:
        ovs.set_up()
        yield ovs
    finally:
        ovs.close()
