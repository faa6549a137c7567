#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VDSM's hooks: VMs made to harm, and what user vdsm can do to root's half through sudo.

usage: test-vdsm-root.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import contextlib
import os
import random
import shutil
import stat
import subprocess
import sys

from harness import (
    Failure, check, command_line, holds, pools, pools_become, read, same, until, write)
from vdsm_host import (
    BASE, ELEMENT, HOOKS, HUGE, PATIENCE_S, POINTS, PROGRAM, REFUSED, SUDOERS, Vm, claimed,
    is_one_line, other_sudo, script, silent, sudo, vdsm, main)
from vdsm_runner import HookError, Runner


# --- hostile VMs ------------------------------------------------------------------------------

HOSTILE = ("$(touch MARK)", "`touch MARK`", "2048;touch MARK", "2048\n2048", "\x1b[31m2048", "%s%n%n",
           "../../../../etc/shadow", "2048 --as-root", "-1;x", "'\"<>&", "9" * 4000, "\u202e2048")


def hostile_properties(bench):
    """values of properties made for shells, terminals, printf and paths are refused in one line"""
    runner = vdsm(bench)
    mark = f"{runner.directory}/mark"
    for value in HOSTILE:
        for properties in ({"hugepages": value.replace("MARK", mark)},
                           {"hugepages": "2048", "hugepages_shared": value.replace("MARK", mark)}):
            holds(Vm(bench, runner, properties).refused(), "property hugepages")
    check(not os.path.exists(mark), "a value was run")


def hostile_xml(bench):
    """name, title and metadata made for shells, terminals, printf and paths do no harm"""
    before = pools()
    runner = vdsm(bench)
    mark = f"{runner.directory}/mark"
    for text in (f"$(touch {mark});`touch {mark}`", "a&#10;b", "%s%n%n%x", "../../../etc/shadow",
                 "--as-root", "\u202ex\u0085y", "&lt;hugepages/&gt;"):
        vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
        vm.xml = vm.before = vm.before.replace(vm.name, text).replace(
            "<vcpu>", f"<title>{text}</title>"
            f"<metadata><x:y xmlns:x='urn:x'>{text}</x:y></metadata><vcpu>")
        vm.before_vm_start()
        claimed(bench, "claimed", pages=32)
        bench.ctl("claims", status=0)
        vm.destroy()
        silent(runner)
        pools_become(before)
        vm.xml = vm.before.replace(">64<", f">{4 * 1024 * 1024}<")
        vm.before = vm.xml
        holds(vm.refused(), "short")
        runner.log.clear()
    check(not os.path.exists(mark), "a text was run")


def hostile_names(bench):
    """properties with names of the program's and of sudo's surroundings change nothing"""
    runner = vdsm(bench)
    trap = f"{bench.directory}/trap"
    os.mkdir(trap)
    os.chmod(runner.directory, 0o777)
    for name in ("sudo", "vdsm-hook"):
        os.chmod(write(f"{trap}/{name}", f"#!/bin/sh\ntouch {runner.directory}/mark\n"), 0o755)
    vm = Vm(bench, runner, {"hugepages": "2048", "PATH": trap, "IFS": "u", "LD_LIBRARY_PATH": trap,
                            "TMPDIR": "/none", "LC_ALL": "x", "G_DEBUG": "fatal-warnings", "HOME": trap,
                            "SUDO_ASKPASS": f"{trap}/sudo", "XDG_CONFIG_HOME": trap, "vmId": "x"},
            memory_mib=64)
    vm.before_vm_start()
    claimed(bench, "claimed", pages=32)
    same(bench.claims()[0]["uuid"], vm.uuid, "UUID")
    vm.destroy()
    silent(runner)
    check(not os.path.exists(f"{runner.directory}/mark"), "a program of the property's PATH was run")


def file_of_root(bench):
    """an XML file that became a link to a file of root's is refused, and nothing of it is told"""
    runner = vdsm(bench)
    content = f"<domain><name>secret-word</name>{HUGE}</domain>"
    secret = write(f"{bench.directory}/secret", content)
    os.chmod(secret, 0o600)
    for target in (secret, "/etc/shadow"):
        before = (read(target), os.stat(target))
        vm = Vm(bench, runner, {"hugepages": "2048"})
        with script("before_vm_start", "10_link", f"ln -sf {target} $_hook_domxml"):
            try:
                vm.before_vm_start()
                raise Failure("the start is not refused")
            except OSError as error:  # VDSM may not read it either
                holds(str(error), "Permission denied")
        path, status, text = runner.log[-1]
        same((os.path.basename(path), status), ("50_hugevm", REFUSED), "the hook")
        is_one_line(text)
        holds(text, "Permission denied")
        check("secret" not in text and "root:" not in text, text)
        same((read(target), os.stat(target)), before, "the file of root's")
        same(bench.claims(), [], "claims")


def link_to_own_file(bench):
    """an XML file that became a link to another file of vdsm's is replaced, not written through"""
    runner = vdsm(bench)
    vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
    other = write(f"{runner.directory}/other", vm.before)
    with script("before_vm_start", "10_link", f"ln -sf {other} $_hook_domxml"):
        vm.before_vm_start()
    holds(vm.xml, ELEMENT)
    same(read(other), vm.before, "the other file")
    vm.destroy()
    silent(runner)


# --- root's half, and sudo --------------------------------------------------------------------


def captured_request(bench, vm):
    """What the hook would tell root for this VM, its owner being this process."""
    path = f"{bench.directory}/vdsm/request"
    with other_sudo(f"cat >{path}; exit 1"), contextlib.suppress(HookError):
        vm.before_vm_start()
    with open(path, "rb") as file:
        return file.read()


def garbage_for_root(bench):
    """whatever user vdsm sends to root's half, it ends with a status, and nothing is taken"""
    before = pools()
    runner = vdsm(bench)
    request = captured_request(bench, Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64))
    chance = random.Random(1)
    inputs = [b"", b"\0", bytes(70 * 1024 * 1024), *(request[:n] for n in (1, 8, 40, len(request) // 2,
                                                                           len(request) - 1)),
              request + b"\0", *(chance.randbytes(n) for n in (1, 7, 64, 4096, 200000))]
    for data in inputs:
        for point in POINTS:
            status, text = sudo(runner, PROGRAM, "--as-root", point, data=data)
            what = f"{len(data)} bytes {data[:10]!r} at {point}"
            check(status in (0, 3), f"status {status} for {what}: {text}")
            same((pools(), bench.claims()), (before, []), f"pools and claims after {what}")
        check(status == 3 or data.strip(b"\0"), "zeros are taken for a request")
    same(sudo(runner, PROGRAM, "--as-root", "before_vm_start", data=request)[0], 0,
         "the request itself")
    claimed(bench, "claimed", pages=32)
    sudo(runner, PROGRAM, "--as-root", "after_vm_destroy", data=request)
    same((pools(), bench.claims()), (before, []), "pools and claims at the end")


def changed_requests(bench):
    """a request with any of its bytes changed crashes nothing"""
    before = pools()
    runner = vdsm(bench)
    request = captured_request(bench, Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64))
    chance = random.Random(2)
    for _ in range(40):
        data = bytearray(request)
        for _ in range(chance.randint(1, 4)):
            # header and offsets are at both ends; the XML in between is the parser's matter
            at = chance.choice((chance.randrange(60), len(data) - 1 - chance.randrange(20)))
            data[at] = chance.randrange(256)
        status, text = sudo(runner, PROGRAM, "--as-root", "before_vm_start", data=bytes(data))
        check(status in (0, 3), f"status {status} for {bytes(data)!r}: {text}")
    for claim in bench.claims():
        bench.ctl("release", claim["uuid"], status=0)
    pools_become(before)


def foreign_owner(bench):
    """a request in the name of a process that did not ask for it is refused"""
    runner = vdsm(bench)
    vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
    request = captured_request(bench, vm)
    owner = os.getpid().to_bytes(8, "little")
    check(owner in request, "the request does not name its owner")
    stranger = bench.start(["sleep", "60"])
    for pid in (stranger.pid, 0, 1, 2, 1 << 40, (1 << 64) - 1):
        data = request.replace(owner, pid.to_bytes(8, "little"), 1)
        status, text = sudo(runner, PROGRAM, "--as-root", "before_vm_start", data=data)
        same(status, 3, f"status for owner {pid}")
        holds(text, "owner")
        same(bench.claims(), [], f"claims for owner {pid}")


def other_commands(bench):
    """sudo allows one command line for each point that needs root, and no other"""
    runner = vdsm(bench)
    same(subprocess.run(["visudo", "-c"], capture_output=True, check=False).returncode, 0, "visudo -c")
    same((os.stat(SUDOERS).st_uid, stat.S_IMODE(os.stat(SUDOERS).st_mode)), (0, 0o440),
         "owner and mode of the sudoers file")
    for point in POINTS:
        same(sudo(runner, PROGRAM, "--as-root", point), (3, "the request is none\n"), point)
    for words in ((), ("--as-root",), ("--as-root", "before_vm_pause"), ("--as-root", ""),
                  ("--as-root", "before_vdsm_start"), ("--as-root", "after_get_stats"),
                  ("--as-root", "before_vm_start", "more"), ("--as-root", "before_vm_start "),
                  ("before_vm_start",)):
        status, text = sudo(runner, PROGRAM, *words)
        same(status, 1, f"status for {words}")
        holds(text, "sudo: a password is required")
    # sudo compares arguments joined by blanks; to the program this one is none of its own
    status, text = sudo(runner, PROGRAM, "--as-root before_vm_start")
    same((status, "to be run by VDSM" in text), (0, True), "the arguments as one")
    for program in ("/bin/sh", "/usr/sbin/hugevmctl", f"{HOOKS}/before_vm_start/50_hugevm"):
        status, text = sudo(runner, program, "--as-root", "before_vm_start")
        same(status, 1, f"status for {program}")
    for user in ("daemon", "#1"):
        same(sudo(runner, "-u", user, PROGRAM, "--as-root", "before_vm_start")[0], 1, f"as {user}")
    nobody = Runner(HOOKS, runner.directory, user="nobody")
    same(sudo(nobody, PROGRAM, "--as-root", "before_vm_start")[0], 1, "status for user nobody")


def environment_for_root(bench):
    """no variable of user vdsm's reaches root's half"""
    runner = vdsm(bench)
    call = (PROGRAM, "--as-root", "before_vm_start")
    for words in (("FOO=bar", *call), ("-E", *call), ("--preserve-env", *call),
                  ("--preserve-env=FOO", *call), ("LD_PRELOAD=/x.so", *call)):
        status, text = sudo(runner, *words, environment={"FOO": "bar"})
        same(status, 1, f"status for {words[0]}")
        holds(text, "not allowed")
    hostile = {"FOO": "bar", "G_DEBUG": "all", "GIO_EXTRA_MODULES": "/x", "TERM": "evil",
               "LANG": "evil", "LC_ALL": "evil", "DISPLAY": "evil", "TZ": "evil", "PATH": "/evil",
               "XAUTHORITY": "evil"}
    process = subprocess.Popen(["/usr/bin/sudo", "-n", *call], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**BASE, **hostile}, **runner.user)
    try:
        pid = until(lambda: roots_half(call), "root's half", 10)
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = dict(word.split("=", 1) for word in file.read().decode().split("\0") if word)
    finally:
        process.stdin.close()
        process.wait(PATIENCE_S)
    same([name for name, value in environment.items()
          if value == "evil" or name in ("FOO", "G_DEBUG", "GIO_EXTRA_MODULES")], [],
         "variables that came through")
    check("/evil" not in environment["PATH"], "PATH came through")


def roots_half(call):
    return next((pid for pid in os.listdir("/proc")
                 if pid.isdigit() and command_line(pid) == [*call]), 0)


def configuration_of_vdsm(bench):
    """configuration that user vdsm can write is not read, nor shown, nor believed"""
    runner = vdsm(bench)
    own = "/run/vdsm"
    os.makedirs(f"{own}/vdsm.conf.d")
    for path in (own, f"{own}/vdsm.conf.d"):
        os.chown(path, runner.user["user"], runner.user["group"])
    os.symlink("/etc/shadow", f"{own}/vdsm.conf.d/10.conf")
    write(f"{own}/vdsm.conf.d/20.conf", "[hugevm]\nenabled = false\n")
    os.mkfifo(f"{own}/vdsm.conf.d/30.conf")
    try:
        vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64)
        vm.before_vm_start()
        claimed(bench, "claimed", pages=32)
        vm.destroy()
        said = "".join(text for _path, _status, text in runner.log)
        holds(said, "not read", own)
        check("root:" not in said and "$" not in said, f"content is shown: {said}")
    finally:
        shutil.rmtree(own)


def reply_that_nobody_takes(bench):
    """a claim of which nobody hears, as vdsm's half was killed, is taken back"""
    before = pools()
    runner = vdsm(bench)
    request = captured_request(bench, Vm(bench, runner, {"hugepages": "2048"}, memory_mib=64))
    end, other_end = os.pipe()
    os.close(end)
    done = subprocess.run(["/usr/bin/sudo", "-n", PROGRAM, "--as-root", "before_vm_start"],
                          input=request, stdout=other_end, stderr=subprocess.PIPE, env=BASE,
                          timeout=PATIENCE_S, check=False, **runner.user)
    os.close(other_end)
    same((done.returncode, done.stderr), (3, b"nobody takes the reply\n"), "root's half says")
    same((pools(), bench.claims()), (before, []), "pools and claims")


if __name__ == "__main__":
    sys.exit(main([
        hostile_properties, hostile_xml, hostile_names, file_of_root, link_to_own_file,
        garbage_for_root, changed_requests, foreign_owner, other_commands, environment_for_root,
        configuration_of_vdsm, reply_that_nobody_takes,
    ]))
