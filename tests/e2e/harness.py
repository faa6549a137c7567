# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the e2e tests share: the machine as it was found, VMs to start, TAP.

These tests resize the machine's huge page pools and start real VMs, so they run only where
HUGEVM_E2E=1 says that this is wanted; then whatever is missing is a failure. Around each test a
Bench notes pools, ledger and temporary files, and puts all back, also after a failure. Processes
are ended by pid, and only those that the test started: a VM's QEMU is known by its UUID, which is
made for the test.
"""

import contextlib
import ctypes
import fcntl
import glob
import grp
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid as uuids

import traces

SYS = "/sys/kernel/mm/hugepages"
STATE = "/run/hugevm"
MOUNT = "/dev/hugepages"
M2, G1 = 2048, 1048576
DYNAMIC = "[performance]\nuse_dynamic_hugepages = true\n"
STATIC = "[performance]\nuse_dynamic_hugepages = false\n"
PATIENCE_S = 60
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SLOTS = 3  # of `run`, that tests use

ctl = None  # path of hugevmctl
module = None  # path of hugevm.so


class Failure(AssertionError):
    """The product does not do what the test says."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def same(found, expected, what):
    check(found == expected, f"{what}: {found!r} instead of {expected!r}")


def holds(text, *parts):
    """All parts are in the text."""
    for part in parts:
        check(str(part) in text, f"'{part}' is not in: {text.strip()}")


def until(condition, what, seconds=PATIENCE_S, poll_s=0.02):
    """Waits for a true value, and returns it."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f"waited {seconds} s in vain for {what}")
        time.sleep(poll_s)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


# --- pools ------------------------------------------------------------------------------------


def knob(kib, name="nr"):
    return f"{SYS}/hugepages-{kib}kB/{name}_hugepages"


def total(kib=M2):
    return int(read(knob(kib)))


def free(kib=M2):
    return int(read(knob(kib, "free")))


def sizes():
    return sorted(int(path.rsplit("-", 1)[1][:-2]) for path in glob.glob(f"{SYS}/hugepages-*kB"))


def pools():
    """Per size: total, free, surplus, resv; what a test compares before and after."""
    return {kib: tuple(int(read(knob(kib, name))) for name in ("nr", "free", "surplus", "resv"))
            for kib in sizes()}


def set_total(pages, kib=M2):
    write(knob(kib), str(pages))
    same(total(kib), pages, f"the machine does not give {pages} pages of {kib} KiB: total")


def pools_become(expected, what="pools"):
    """The kernel returns a dead process's pages a moment after its end."""
    end = time.monotonic() + 5
    while pools() != expected and time.monotonic() < end:
        time.sleep(0.02)
    same(pools(), expected, what)


# --- processes --------------------------------------------------------------------------------


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def is_alive(pid):
    """A first thread that has ended is a zombie while others still hold the memory."""
    try:
        fields = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
        return fields[0] not in "ZXx" or int(fields[17]) > 1
    except (OSError, IndexError):
        return False


def processes_of(uuid):
    """Processes with -uuid UUID on their command line: QEMU, or what stands for it."""
    found = []
    for name in os.listdir("/proc"):
        words = command_line(name) if name.isdigit() else []
        if uuid in words and "-uuid" in words and is_alive(name):
            found.append(int(name))
    return found


def end_process(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def smaps_of_guest(pid, kib):
    """KiB of a process's memory on pages of this size: (private, shared)."""
    private = shared = size = 0
    for line in read(f"/proc/{pid}/smaps").splitlines():
        key, _, rest = line.partition(":")
        if key == "KernelPageSize":
            size = int(rest.split()[0])
        elif key == "Private_Hugetlb" and size == kib:
            private += int(rest.split()[0])
        elif key == "Shared_Hugetlb" and size == kib:
            shared += int(rest.split()[0])
    return private, shared


# --- one test's surroundings ------------------------------------------------------------------


class Vm:
    """A domain XML in a file, and the UUID that tells its QEMU from all others."""

    def __init__(self, directory, memory_mib=256, machine="q35", devices="", inside="",
                 with_uuid=True):
        self.uuid = str(uuids.uuid4())
        self.name = f"e2e-{self.uuid[:8]}"
        self.xml = (
            f"<domain type='qemu'>\n  <name>{self.name}</name>\n"
            + (f"  <uuid>{self.uuid}</uuid>\n" if with_uuid else "")
            + f"  <memory unit='MiB'>{memory_mib}</memory>\n  <vcpu>1</vcpu>\n{inside}"
            f"  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>\n"
            f"  <devices><emulator>{qemu()}</emulator>{devices}<memballoon model='none'/></devices>"
            "\n</domain>\n")
        self.path = write(f"{directory}/{self.name}.xml", self.xml)

    def qemu(self):
        """QEMU's pid, or 0."""
        return next(iter(processes_of(self.uuid)), 0)


class Bench:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="hugevm-e2e-")
        os.chmod(self.directory, 0o755)
        self.started = []
        self.vms = []
        self.before = {kib: total(kib) for kib in sizes()}
        self.ledger = {path: open(path, "rb").read() for path in glob.glob(f"{STATE}/ledger*json*")}

    def conf(self, text=DYNAMIC, name="hugevm.conf"):
        return write(f"{self.directory}/{name}", text)

    def vm(self, **options):
        self.vms.append(Vm(self.directory, **options))
        return self.vms[-1]

    def ctl(self, *arguments, conf=None, status=None, timeout=PATIENCE_S, **options):
        """Runs hugevmctl to its end; status: the exit status that it should have."""
        command = [ctl, *(["--conf", conf] if conf else []), *map(str, arguments)]
        done = subprocess.run(command, text=True, capture_output=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL, **options)
        if status is not None:
            same(done.returncode, status,
                 f"exit status of {' '.join(command[1:])} ({done.stderr.strip()})")
        return done

    def json(self, *arguments, **options):
        """Standard output of hugevmctl --json, which is one JSON document and nothing else."""
        return json.loads(self.ctl("--json", *arguments, **options).stdout)

    def claims(self):
        return self.json("claims", status=0)["claims"]

    def start(self, command, **options):
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   **{"stdin": subprocess.DEVNULL, **options})
        self.started.append(process)
        return process

    def run(self, vm, *arguments, conf=None, hugepages=M2):
        """Starts hugevmctl run and leaves it running."""
        conf = conf or self.conf()
        wish = ["-p", f"hugepages={hugepages}"] if hugepages else []
        return self.start([ctl, "--conf", conf, "run", vm.path, *wish, *arguments])

    def run_until_up(self, vm, *arguments, **options):
        process = self.run(vm, *arguments, **options)
        line = process.stdout.readline()
        if line != f"running: '{vm.name}'\n":
            process.kill()
            raise Failure(f"run does not run: {line!r} {process.communicate()[1]}")
        check(vm.qemu(), "run says that it runs, but there is no QEMU")
        return process

    def end(self, process, number=None, status=0):
        """Sends a signal (None: none), and checks how the process ends; its output."""
        if number is not None:
            process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        if status is not None:
            same(process.returncode, status, f"exit status ({err.strip()})")
        return out, err

    def growable(self, pages):
        """So many pages of 2 MiB, or three quarters of what this machine can grow."""
        def allowed():
            pool = self.json("status", conf=self.conf(), status=0)["pools"][0]
            return pool["allocatable"] * 3 // 4

        # memory of a VM that has just ended may take a moment to be free
        until(lambda: allowed() >= min(pages, 1500), "memory for 1500 pages", 30, 0.5)
        return min(pages, allowed())

    def _end_all(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        for vm in self.vms:
            for pid in processes_of(vm.uuid):
                end_process(pid)
            until(lambda: not processes_of(vm.uuid), "a VM's end", 10)

    def restore(self):
        self._end_all()
        traces.remove_all()
        for path in glob.glob(f"{STATE}/ledger*json*"):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        for path, content in self.ledger.items():
            with open(path, "wb") as file:
                file.write(content)
        shutil.rmtree(self.directory, ignore_errors=True)
        for kib, pages in sorted(self.before.items(), reverse=True):
            end = time.monotonic() + 5
            while (total(kib), free(kib)) != (pages, pages) and time.monotonic() < end:
                write(knob(kib), str(pages))
                time.sleep(0.05)
            same((total(kib), free(kib)), (pages, pages), f"restoring pages of {kib} KiB failed")


# --- the machine ------------------------------------------------------------------------------


def qemu():
    return shutil.which("qemu-system-x86_64") or "/usr/bin/qemu-system-x86_64"


def missing():
    """What these tests need and this machine lacks; None: nothing."""
    if os.geteuid() != 0:
        return "the e2e tests need root"
    if not os.access(qemu(), os.X_OK):
        return "there is no qemu-system-x86_64"
    for path in (ctl, module):
        if not os.path.exists(path):
            return f"there is no {path}"
    if M2 not in sizes():
        return "this kernel has no pages of 2 MiB"
    for kib, (pages, unused, surplus, resv) in pools().items():
        if unused != pages or surplus or resv:
            return f"pages of {kib} KiB are in use on this machine: not touching its pools"
    with contextlib.suppress(OSError, ValueError):
        ledger = json.loads(read(f"{STATE}/ledger.json"))
        if ledger.get("claims") or ledger.get("grown"):
            return f"hugevm is in use on this machine: see {STATE}/ledger.json"
    return None


@contextlib.contextmanager
def only_one():
    """Two checkouts tested at once would see each other's pages."""
    with open("/run/hugevm-e2e.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def hugetlbfs_of(kib):
    """A hugetlbfs mount for pages of this size, for the time, unless there is one."""
    option = f"pagesize={kib // 1024}M" if kib < G1 else f"pagesize={kib // G1}G"
    mounts = [line.split() for line in read("/proc/self/mounts").splitlines()]
    if any(fields[2] == "hugetlbfs" and option in fields[3].replace("1024M", "1G").split(",")
           for fields in mounts):
        yield
        return
    directory = MOUNT if kib == M2 else f"{MOUNT}-{kib}kB"
    had_directory = os.path.isdir(directory)
    os.makedirs(directory, exist_ok=True)
    subprocess.run(["mount", "-t", "hugetlbfs", "-o", option, "none", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        if not had_directory:
            os.rmdir(directory)


@contextlib.contextmanager
def kvm_device():
    """A /dev/kvm that QEMU's user may not open makes libvirt probe QEMU anew at each start."""
    path = "/dev/kvm"
    if not os.path.exists(path):
        yield
        return
    found = os.stat(path)
    with contextlib.suppress(KeyError):
        os.chown(path, -1, grp.getgrnam("kvm").gr_gid)
        os.chmod(path, 0o660)
    try:
        yield
    finally:
        os.chown(path, found.st_uid, found.st_gid)
        os.chmod(path, found.st_mode & 0o7777)


class KnownQemu:
    """libvirt asks QEMU for its capabilities, for seconds, once for each directory of its own.

    The answers are kept beside the build from one program of tests to the next. libvirt itself
    sees whether they are still true: of this QEMU, this kernel, this program.
    """

    def __init__(self, kind):
        build = os.path.dirname(os.path.dirname(ctl))
        self.kept = f"{build}/tests/e2e/capabilities/{kind}"

    def put_into(self, cache):
        if os.path.isdir(self.kept):
            shutil.copytree(self.kept, cache, dirs_exist_ok=True)

    def keep(self, cache):
        if glob.glob(f"{cache}/*.xml"):
            shutil.rmtree(self.kept, ignore_errors=True)
            shutil.copytree(cache, self.kept)


@contextlib.contextmanager
def state_directory():
    """/run/hugevm goes where there was none; what `run` has asked QEMU is kept."""
    known = KnownQemu("embed")
    existed = os.path.exists(STATE)
    if not existed:
        for slot in range(SLOTS):
            known.put_into(f"{STATE}/embed/{slot}/cache/qemu/capabilities")
    try:
        yield
    finally:
        known.keep(f"{STATE}/embed/0/cache/qemu/capabilities")
        if not existed:
            shutil.rmtree(STATE, ignore_errors=True)


def on_signal(number, _frame):
    raise SystemExit(128 + number)


def go_on_below_a_reaper():
    """Returns in a child; the parent reaps whatever becomes an orphan below it, and ends with it.

    A daemon's end is seen by libvirt, and by whoever else waits for it, when its parent has reaped
    it. That is init, and the first process of a container may take seconds for it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    sys.stdout.flush()
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "cannot be a reaper")
    child = os.fork()
    if child == 0:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


# --- TAP --------------------------------------------------------------------------------------


def run_case(number, case):
    name = case.__doc__.strip().splitlines()[0]
    begin = time.monotonic()
    problem = None
    bench = Bench()
    try:
        try:
            case(bench)
        finally:
            bench.restore()
    except Exception as error:  # a test's own mistake is a failure of that test too
        problem = str(error) if isinstance(error, Failure) else traceback.format_exc()
    for line in (problem or "").splitlines():
        print(f"# {line}")
    print(f"# {time.monotonic() - begin:.1f} s")
    print(f"{'ok' if problem is None else 'not ok'} {number} - {name}", flush=True)
    return problem is None


UNSEEN_QEMU = """import mmap, sys
pages = int(sys.argv[1])
memory = pages and mmap.mmap(-1, pages << 21, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x40000)
for i in range(pages):
    memory[i << 21] = 1
print("mapped", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def python(text, *arguments):
    """A process that maps something, and says so."""
    process = subprocess.Popen([sys.executable, "-c", text, *arguments], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        same(process.stdout.readline(), "mapped\n", "it says")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def unseen_qemu(pages):
    """So many pages of 2 MiB are in use, as by the QEMU of a VM whose process cannot be seen."""
    return python(UNSEEN_QEMU, str(pages))


def main(cases):
    """usage: test-THEME.py HUGEVMCTL HUGEVM.SO [WORD]: only cases with that word in their names."""
    global ctl, module
    if os.environ.get("HUGEVM_E2E") != "1":
        print("1..0 # SKIP resizes the machine's page pools and starts VMs: set HUGEVM_E2E=1")
        return 0
    ctl, module = (os.path.abspath(path) for path in sys.argv[1:3])
    cases = [case for case in cases if all(word in case.__doc__ for word in sys.argv[3:])]
    signal.signal(signal.SIGTERM, on_signal)
    os.environ["LC_ALL"] = "C.UTF-8"
    go_on_below_a_reaper()
    with only_one():
        lack = missing()
        if lack is not None:
            print(f"1..1\n# {lack}\nnot ok 1 - the machine has what these tests need")
            return 1
        print(f"1..{len(cases)}", flush=True)
        with state_directory(), hugetlbfs_of(M2), kvm_device():
            results = [run_case(number, case) for number, case in enumerate(cases, 1)]
    return 0 if all(results) else 1
