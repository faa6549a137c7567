#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks the systemd units. usage: test-units.py HUGEVMCTL INSTALLED_HUGEVMCTL SERVICE TIMER (TAP)

systemd is not needed; where its systemd-analyze is installed, it is asked too.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# systemd.exec(5): each of these gives the service a mount namespace of its own, where umount does
# not reach what libvirt has mounted, or an IPC namespace without the host's guards
FORBIDDEN = re.compile(r"^(Protect(System|Home|Proc|KernelTunables|KernelModules|KernelLogs|"
                       r"ControlGroups|Hostname)|Private\w+|ProcSubset|RootDirectory|RootImage|"
                       r"Bind(ReadOnly)?Paths|TemporaryFileSystem|DynamicUser|IPCNamespacePath|"
                       r"(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)Paths|MountFlags|MountAPIVFS|"
                       r"MountImages|ExtensionImages|ExtensionDirectories|"
                       r"(Runtime|State|Cache|Logs|Configuration)Directory)$")
LIBVIRT = {"libvirtd.service", "virtqemud.service", "vdsmd.service"}


def read_unit(path):
    """[(section, key, value)]"""
    found, section = [], None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def values(unit, section, key):
    return [value for where, name, value in unit if (where, name) == (section, key)]


def check_program(units):
    command, = values(units.service, "Service", "ExecStart")
    program, *words = command.split()
    if program != units.installed:
        return [f"{program} is not where hugevmctl goes: {units.installed}"]
    text = subprocess.run([units.ctl, *words, "--help"], capture_output=True, text=True,
                          check=False)
    return [] if text.returncode == 0 else [text.stderr]


def check_namespaces(units):
    return [f"{key}= makes a namespace" for _, key, _ in units.service if FORBIDDEN.match(key)]


def check_order(units):
    before = set(" ".join(values(units.service, "Unit", "Before")).split())
    return [f"not before {name}" for name in sorted(LIBVIRT - before)]


def check_condition(units):
    found = values(units.service, "Unit", "ConditionPathExists")
    wrong = [] if found == ["/run/hugevm/ledger.json"] else [f"condition of the service: {found}"]
    # on the timer it would be looked at once, at boot, and never again
    return wrong + [f"the timer has {key}=" for _, key, _ in units.timer
                    if key.startswith(("Condition", "Assert"))]


def check_install(units):
    return [f"{name} is enabled by nothing" for name, unit in
            (("service", units.service), ("timer", units.timer))
            if not values(unit, "Install", "WantedBy")]


def check_systemd(units):
    """The program stands for the one that is not installed yet."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        text = units.service_path.read_text(encoding="utf-8")
        service = directory / "hugevm-reconcile.service"
        service.write_text(text.replace(units.installed, os.path.abspath(units.ctl)))
        shutil.copy(units.timer_path, directory)
        run = subprocess.run(["systemd-analyze", "verify", "--man=no", service,
                              directory / "hugevm-reconcile.timer"], capture_output=True,
                             text=True, check=False, env=dict(os.environ, LC_ALL="C.UTF-8"))
    ours = [line for line in run.stderr.splitlines() if "hugevm" in line]
    return ours or ([run.stderr] if run.returncode != 0 else [])


class Units:
    def __init__(self, ctl, installed, service, timer):
        self.ctl, self.installed = ctl, installed
        self.service_path, self.timer_path = pathlib.Path(service), pathlib.Path(timer)
        self.service, self.timer = read_unit(self.service_path), read_unit(self.timer_path)


def main(*arguments):
    checks = [
        ("ExecStart is a command of the installed hugevmctl", check_program),
        ("the service stays in the host's namespaces", check_namespaces),
        ("what the last boot left is set right before VMs start", check_order),
        ("nothing runs on a host without claims", check_condition),
        ("both units can be enabled", check_install),
        ("systemd-analyze verify has nothing to say", check_systemd),
    ]
    units = Units(*arguments)
    print(f"1..{len(checks)}")
    for number, (name, check) in enumerate(checks, 1):
        if check is check_systemd and shutil.which("systemd-analyze") is None:
            print(f"ok {number} - {name} # SKIP systemd is not installed")
            continue
        wrong = check(units)
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}")
        for line in wrong:
            print(f"# {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
