# SPDX-License-Identifier: LGPL-2.1-or-later
"""An installed host: hugevm under /usr, a real libvirtd and a real /dev/log, without a trace.

enter() puts this process, and so all that it starts, into a mount namespace of its own: /etc,
/usr, /var and /dev are overlays whose changes go to a tmpfs, /run is that tmpfs, and the build is
installed there for real, as a package would do it. All of this ends with the last process in it.
What stays the machine's own: the page pools, the processes, /tmp, /dev/shm, the directory of the
build, and harness.only_one()'s lock, without which two checkouts would not see each other.

enter() comes before harness.main(), so that the hugetlbfs mounts and the opened /dev/kvm are the
namespace's too: main() takes back what it did where it did it. libvirtd is started by the cases,
thus after the mounts, which it looks for when it starts and never again. It has a network
namespace of its own: sockets with a path work as ever, and whatever a network driver does at its
start, it does to nobody.
"""

import contextlib
import ctypes
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import harness
from harness import Failure, check, read, same, until, write

CLONE_NEWNS = 0x20000
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000
MNT_DETACH = 2
LOCK = "/run/hugevm-e2e.lock"
SCRATCH = "/run/installed-host"
HOOKS = "/etc/libvirt/hooks"
CAPABILITIES = "/var/cache/libvirt/qemu/capabilities"
# libvirtd's own, as from a service manager: a hook must not live on what a developer's shell has
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               "LC_ALL": "C"}
START_S = 30
STOP_S = 20

libc = ctypes.CDLL(None, use_errno=True)


class Unusable(RuntimeError):
    """This machine cannot be made an installed host; the text says why."""


# --- the namespace ----------------------------------------------------------------------------


def succeeds(result, what):
    if result != 0:
        raise Unusable(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind=None, flags=0, data=None):
    words = [word and word.encode() for word in (source, target, kind, data)]
    succeeds(libc.mount(*words[:3], ctypes.c_ulong(flags), words[3]),
             f"cannot mount {kind or source} on {target}")


def not_in_use():
    """harness.missing() will look into an empty /run: what it would find is looked at here."""
    with harness.only_one():
        try:
            ledger = json.loads(read(f"{harness.STATE}/ledger.json"))
        except (OSError, ValueError):
            return
    if ledger.get("claims") or ledger.get("grown"):
        raise Unusable(f"hugevm is in use on this machine: see {harness.STATE}/ledger.json")


def fresh_run():
    """An empty /run, but with the machine's own lock of the e2e tests."""
    lock = os.open(LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
    mount("installed-host", "/run", "tmpfs", data="mode=755")
    os.close(os.open(LOCK, os.O_RDONLY | os.O_CREAT, 0o644))
    mount(f"/proc/self/fd/{lock}", LOCK, flags=MS_BIND)
    os.close(lock)
    os.mkdir("/run/lock")
    os.chmod("/run/lock", 0o1777)


def overlay(directory, target=None):
    """What is written to the directory from now on goes to SCRATCH."""
    upper, work = (f"{SCRATCH}{directory}/{name}" for name in ("upper", "work"))
    os.makedirs(upper)
    os.makedirs(work)
    shutil.copystat(directory, upper)
    mount("overlay", target or directory, "overlay",
          data=f"lowerdir={directory},upperdir={upper},workdir={work}")


def overlay_dev():
    """An overlay shows one file system only, and /dev has others on it: put together, then moved.

    The old one goes: libvirt moves what it finds in the table of mounts below /dev into QEMU's
    namespace, and fails with those that are covered.
    """
    new = f"{SCRATCH}/dev/new"
    os.makedirs(new)
    overlay("/dev", new)
    points = {line.split()[4] for line in read("/proc/self/mountinfo").splitlines()}
    for point in sorted(point for point in points if point.startswith("/dev/")):
        mount(point, new + point[len("/dev"):], flags=MS_BIND | MS_REC)
    succeeds(libc.umount2(b"/dev", MNT_DETACH), "cannot unmount /dev")
    mount(new, "/dev", flags=MS_MOVE)


def meson(*arguments):
    done = subprocess.run(["meson", *arguments], text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise Unusable(f"meson {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def install(build_dir):
    options = json.loads(meson("introspect", "--buildoptions", build_dir))
    prefix = next(option["value"] for option in options if option["name"] == "prefix")
    if prefix != "/usr":
        raise Unusable(f"{build_dir} is for {prefix}: hosts look for hooks under /usr only")
    meson("install", "-C", build_dir, "--no-rebuild")


def enter(build_dir):
    """Once, before harness.main() and any thread; does nothing where main() will run no test."""
    if os.environ.get("HUGEVM_E2E") != "1" or os.geteuid() != 0:
        return
    not_in_use()
    succeeds(libc.unshare(CLONE_NEWNS), "cannot have a mount namespace")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    fresh_run()
    for directory in ("/etc", "/usr", "/var"):
        overlay(directory)
    overlay_dev()
    install(os.path.abspath(build_dir))


# --- syslog -----------------------------------------------------------------------------------


class Syslog:
    """The other end of /dev/log. A thread reads it: a full socket would stop its writers."""

    PATH = "/dev/log"

    def __init__(self):
        check(os.path.isdir(SCRATCH), "enter() was not called")
        self.received = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.PATH)
        os.chmod(self.PATH, 0o666)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while message := self.socket.recv(65536):
            self.received.append(message.decode(errors="replace"))

    def messages(self, *parts):
        """Those received so far that hold all parts, each as it was sent: '<PRI>DATE TAG: TEXT'."""
        return [text for text in list(self.received) if all(part in text for part in parts)]

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        os.unlink(self.PATH)
        self.socket.shutdown(socket.SHUT_RDWR)


# --- libvirtd ---------------------------------------------------------------------------------


class Libvirtd:
    """A libvirtd of this namespace, up when the constructor returns; VMs outlive it, as they do."""

    def __init__(self, qemu_conf=""):
        check(os.path.isdir(SCRATCH), "enter() was not called")
        self.log = f"{SCRATCH}/libvirtd.log"
        self.process = None
        write("/etc/libvirt/qemu.conf", 'stdio_handler = "file"\nsecurity_driver = "none"\n'
              f"cgroup_controllers = []\n{qemu_conf}")
        self.known_qemu = harness.KnownQemu("system")
        self.known_qemu.put_into(CAPABILITIES)
        for link in glob.glob("/etc/libvirt/**/autostart/*", recursive=True):
            os.unlink(link)
        self.start()

    def start(self):
        with open(self.log, "a", encoding="utf-8") as log:
            # it dies with the test: a SIGKILL of that leaves no daemon behind
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "/usr/sbin/libvirtd",
                 "--pid-file", f"{SCRATCH}/libvirtd.pid"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=ENVIRONMENT)
        try:
            until(self._answers, "libvirtd", START_S, 0.1)
        except Failure as error:
            self.kill()
            raise Failure(f"{error}: {self.said()}") from error

    def said(self):
        """Its log, without what the foreign network namespace makes it say of each interface."""
        return "".join(line for line in read(self.log).splitlines(True) if "Ethtool" not in line)

    def _answers(self):
        check(self.process.poll() is None,
              f"libvirtd ended with status {self.process.returncode}")
        return self.virsh("list", timeout=START_S).returncode == 0

    def stop(self):
        """SIGTERM, and SIGKILL if that does not end it."""
        if self.process is not None:
            self.known_qemu.keep(CAPABILITIES)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        self.kill()

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self):
        self.stop()
        self.start()

    def virsh(self, *arguments, status=None, timeout=harness.PATIENCE_S):
        """Runs virsh to its end; status: the exit status that it should have."""
        command = ["virsh", "-c", "qemu:///system", *map(str, arguments)]
        done = subprocess.run(command, text=True, errors="surrogateescape", capture_output=True,
                              timeout=timeout, check=False, stdin=subprocess.DEVNULL,
                              env={**os.environ, "LC_ALL": "C"})
        if status is not None:
            same(done.returncode, status,
                 f"exit status of {' '.join(command[3:])} ({done.stderr.strip()})")
        return done

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.stop()
