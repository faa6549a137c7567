#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a shell script in a throwaway VM with a real kernel.

Facts about huge pages, small memories and several NUMA nodes need a kernel that may be starved and
thrown away. The VM is QEMU under software emulation (no KVM, no network, no disk): everything that
it needs is in an initramfs built for the occasion from busybox, the programs given with --program
and the shared libraries these need. A start takes a few seconds.

The script runs as /run-test with busybox's sh. What it prints arrives here line by line, on a
serial port of its own, so no kernel message gets between. Its exit status comes over another port
and is the exit status of this program. The kernel's messages go to DIR/kernel.log; their tail
follows as TAP diagnostics when the script failed.

Exit status: that of the script; 124 when the VM was stopped at the timeout, 125 when it ended
without a status, 2 for usage, 126 when something for running it is missing here.
"""

import argparse
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading

TIMED_OUT, DIED, UNAVAILABLE = 124, 125, 126
QEMU = "qemu-system-x86_64"
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var")
STATUS_PORT, OUTPUT_PORT = "/dev/ttyS2", "/dev/ttyS1"

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
ln -s /proc/self/fd /dev/fd
ip link set lo up 2>/dev/null
stty -F {output} raw
stty -F {status} raw
{environment}
cd /root
/bin/sh /run-test >{output} 2>&1 </dev/null
echo $? >{status}
poweroff -f
"""


class Unavailable(Exception):
    """Something that the VM needs is not on this machine."""


def find_tool(name):
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"{name} is not installed")
    return path


def kernel_version(vmlinuz):
    """(major, minor) of a bzImage, from the version string that its header points to."""
    with open(vmlinuz, "rb") as image:
        head = image.read(0x10000)
    if head[0x202:0x206] != b"HdrS":
        raise Unavailable(f"{vmlinuz} is no x86 kernel image")
    start = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    release = head[start : head.index(b"\0", start)].split(b" ")[0].decode()
    major, minor = release.split("-")[0].split(".")[:2]
    return int(major), int(minor)


def mib(size):
    """Size as QEMU writes it, in MiB: 512M, 2G."""
    factor = {"M": 1, "G": 1024}.get(size[-1:].upper())
    if factor is None or not size[:-1].isdigit():
        raise argparse.ArgumentTypeError(f"'{size}' is no size like 512M or 2G")
    return int(size[:-1]) * factor


def node(text):
    """SIZE, or SIZE:CPU for the node that has this CPU: (MiB, CPU or None)."""
    size, _, cpu = text.partition(":")
    if cpu and not cpu.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is no node like 512M or 512M:0")
    return mib(size), int(cpu) if cpu else None


def distance(text):
    """NODE:NODE:VALUE, 10 being that of a node to itself: (node, node, value)."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is no distance like 0:1:15")
    return tuple(int(part) for part in parts)


def source_and_destination(text):
    """SRC:DEST, or SRC alone."""
    source, _, destination = text.partition(":")
    if not os.path.exists(source):
        raise argparse.ArgumentTypeError(f"there is no {source}")
    return source, destination


# ---- initramfs


def libraries_of(path):
    """The shared libraries of a program or library, dynamic loader included."""
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    found = []
    for line in listed.stdout.splitlines():
        if "not found" in line:
            raise Unavailable(f"{path}: {line.strip()}")
        found += [word for word in line.split() if word.startswith("/")][:1]
    return found


def install(tree, source, destination, mode=None):
    target = os.path.join(tree, destination.lstrip("/"))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(source, target)
    shutil.copymode(source, target)
    if mode is not None:
        os.chmod(target, mode)


def install_busybox(tree):
    busybox = find_tool("busybox")
    if libraries_of(busybox):
        raise Unavailable(f"{busybox} is not static (package busybox-static)")
    install(tree, busybox, "/bin/busybox", 0o755)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(tree, "bin", applet))


def install_programs(tree, programs):
    """Returns the directories of the libraries: a run path relative to a program finds nothing."""
    directories = []
    for source, destination in programs:
        install(tree, source, destination or "/usr/bin/" + os.path.basename(source), 0o755)
        for library in libraries_of(source):
            install(tree, library, library, 0o755)
            if os.path.dirname(library) not in directories:
                directories.append(os.path.dirname(library))
    return directories


def write_file(tree, path, text, mode=0o644):
    target = os.path.join(tree, path.lstrip("/"))
    with open(target, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(target, mode)


def quoted(value):
    return "'" + value.replace("'", "'\\''") + "'"


def exports(variables):
    return "\n".join(f"export {name}={quoted(value)}" for name, value in variables.items())


def build_tree(tree, options):
    for directory in DIRECTORIES:
        os.makedirs(os.path.join(tree, directory))
    install_busybox(tree)
    libraries = install_programs(tree, options.program)
    for source, destination in options.file:
        install(tree, source, destination or "/root/" + os.path.basename(source))
    install(tree, options.script, "/run-test", 0o755)
    write_file(tree, "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    write_file(tree, "/etc/group", "root:x:0:\n")
    variables = {"HOME": "/root", "PATH": "/usr/bin:/bin", "HUGEVM_THROWAWAY": "1"}
    if libraries:
        variables["LD_LIBRARY_PATH"] = ":".join(libraries)
    variables.update(item.split("=", 1) for item in options.env)
    init = INIT.format(output=OUTPUT_PORT, status=STATUS_PORT, environment=exports(variables))
    write_file(tree, "/init", init, 0o755)


def pack_tree(tree, initrd):
    names = [os.path.relpath(os.path.join(top, name), tree)
             for top, directories, files in os.walk(tree) for name in directories + files]
    with open(initrd, "wb") as stream:
        subprocess.run([find_tool("cpio"), "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=tree,
                       input="\n".join(sorted(names)).encode(), stdout=stream, check=True)


def build_initrd(options):
    tree = os.path.join(options.work, "tree")
    initrd = os.path.join(options.work, "initrd")
    shutil.rmtree(tree, ignore_errors=True)
    build_tree(tree, options)
    pack_tree(tree, initrd)
    shutil.rmtree(tree)
    return initrd


# ---- QEMU


def memory_arguments(options):
    if not options.node:
        return ["-m", f"{options.mem}M"]
    arguments = ["-m", f"{sum(size for size, _ in options.node)}M"]
    for number, (size, cpu) in enumerate(options.node):
        properties = f"node,nodeid={number}"
        if size > 0:
            arguments += ["-object", f"memory-backend-ram,id=node{number},size={size}M"]
            properties += f",memdev=node{number}"
        if cpu is not None:
            properties += f",cpus={cpu}"
        arguments += ["-numa", properties]
    return arguments + distance_arguments(options)


def distance_arguments(options):
    """QEMU wants all of them or none."""
    given = {tuple(sorted(nodes)): value for *nodes, value in options.distance}
    pairs = itertools.combinations(range(len(options.node)), 2) if given else []
    return [word for pair in pairs for word in
            ("-numa", f"dist,src={pair[0]},dst={pair[1]},val={given.get(pair, 20)}")]


def qemu_command(options, initrd):
    # Kernels since 6.12 patch their own text while other CPUs run it, which QEMU 7.2's emulation
    # does not survive: one thread for all CPUs helps, one CPU (the default) is safe.
    # Nor does its cmpxchg16b always leave the flags as they should be: kernels since 6.12 allocate
    # with it, unless the CPU has none. Without ERMS pages are zeroed by words, not by bytes: each
    # step of a repeated instruction is emulated.
    thread = "single" if kernel_version(options.kernel) >= (6, 12) else "multi"
    # A socket each: a kernel warns of CPUs of one socket that are on different nodes.
    append = ["console=ttyS0", "panic=-1", "loglevel=6", "rdinit=/init", *options.append]
    command = [find_tool(QEMU), "-machine", "q35", "-cpu", "max,cx16=off,erms=off",
               "-accel", f"tcg,thread={thread}",
               "-smp", f"{options.cpus},sockets={options.cpus}", *memory_arguments(options),
               "-nodefaults", "-display", "none", "-no-reboot", "-kernel", options.kernel,
               "-initrd", initrd, "-append", " ".join(append)]
    return command + ["-serial", "file:" + kernel_log(options), "-serial", "stdio", "-serial",
                      "file:" + status_file(options)]


def kernel_log(options):
    return os.path.join(options.work, "kernel.log")


def status_file(options):
    return os.path.join(options.work, "status")


def relay(stream):
    """Passes on line by line; what follows here shall not continue an unfinished last line."""
    for line in stream:
        print(line.decode(errors="replace").replace("\r", "").rstrip("\n"), flush=True)


def run_vm(options, command):
    """Runs QEMU to its end; returns True when it had to be stopped."""
    stopped = threading.Event()

    def stop(*_):
        stopped.set()
        qemu.kill()

    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as qemu:
        timer = threading.Timer(options.timeout, stop)
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in signals:
            signal.signal(number, stop)
        # handlers run in the main thread, which a signal to another one does not wake
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        timer.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        try:
            relay(qemu.stdout)
        finally:
            timer.cancel()
    return stopped.is_set()


def read_status(options):
    try:
        with open(status_file(options), encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return DIED


def show_kernel_log(options, count=40):
    try:
        with open(kernel_log(options), encoding="utf-8", errors="replace") as stream:
            lines = stream.read().replace("\r", "").splitlines()
    except OSError:
        return
    for line in lines[-count:]:
        print(f"# kernel log: {line}")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="vm.py", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kernel", required=True, metavar="VMLINUZ")
    parser.add_argument("--work", required=True, metavar="DIR", help="directory for logs")
    parser.add_argument("--mem", type=mib, default="2G", metavar="SIZE")
    parser.add_argument("--node", type=node, action="append", default=[], metavar="SIZE[:CPU]",
                        help="a NUMA node of that size (0M: none), in place of --mem; repeatable. "
                        "Without a CPU at any of them all are at the first one")
    parser.add_argument("--distance", type=distance, action="append", default=[],
                        metavar="NODE:NODE:VALUE", help="between two nodes; repeatable (default: "
                        "20)")
    parser.add_argument("--cpus", type=int, default=1,
                        help="default 1; kernels since 6.12 may not boot with more")
    parser.add_argument("--append", action="append", default=[], metavar="ARGUMENT",
                        help="kernel command line argument; repeatable")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--file", type=source_and_destination, action="append", default=[],
                        metavar="SRC:DEST")
    parser.add_argument("--program", type=source_and_destination, action="append", default=[],
                        metavar="SRC[:DEST]", help="program or library, with what it is linked to "
                        "(default DEST: /usr/bin)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("script", metavar="SCRIPT")
    options = parser.parse_args(arguments)
    options.work = os.path.abspath(options.work)
    for path in (options.kernel, options.script):
        if not os.path.exists(path):
            parser.error(f"there is no {path}")
    if not all("=" in item for item in options.env):
        parser.error("--env takes NAME=VALUE")
    return options


def main(arguments):
    options = parse_arguments(arguments)
    os.makedirs(options.work, exist_ok=True)
    for old in (kernel_log(options), status_file(options)):
        if os.path.exists(old):
            os.remove(old)
    try:
        command = qemu_command(options, build_initrd(options))
    except Unavailable as reason:
        print(f"vm.py: {reason}", file=sys.stderr)
        return UNAVAILABLE
    stopped = run_vm(options, command)
    status = TIMED_OUT if stopped else read_status(options)
    if stopped:
        print(f"# vm.py: the VM was stopped, at the latest after {options.timeout:g} s")
    if status != 0:
        show_kernel_log(options)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
