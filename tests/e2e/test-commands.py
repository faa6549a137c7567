#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scripts may rely on: exit statuses, JSON, messages, and a ledger that is not as it should be.

usage: test-commands.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid as uuids

import harness
from harness import (DYNAMIC, M2, STATE, STATIC, check, end_process, holds, main, pools,
                     pools_become, read, same, set_total, total, until, write)

NOBODY = 65534
LEDGER, COPY = f"{STATE}/ledger.json", f"{STATE}/ledger.copy.json"
HUGE = ("-p", "hugepages=2048")


def has(document, **types):
    """Keys and their types; further keys may be there."""
    for key, kind in types.items():
        check(key in document, f"no {key} in {sorted(document)}")
        check(isinstance(document[key], kind), f"{key} is {document[key]!r}")


def one_line_error(done, *parts):
    """What every failing command prints: one line, then perhaps one with what to do."""
    lines = done.stderr.splitlines()
    check(1 <= len(lines) <= 2 and lines[0].startswith("hugevmctl: "), f"stderr: {done.stderr!r}")
    check(len(lines) == 1 or lines[1].startswith("  what to do: "), f"stderr: {done.stderr!r}")
    holds(done.stderr, *parts)


# --- contracts --------------------------------------------------------------------------------


def status_json(bench):
    """status --json has the keys of the contract, with the kernel's numbers"""
    set_total(10)
    document = bench.json("status", conf=bench.conf(STATIC + "reserved_hugepage_count = 3\n"),
                          status=0)
    has(document, version=int, pools=list, sizes=list)
    same(document["version"], 1, "version")
    for pool in document["pools"]:
        has(pool, **dict.fromkeys(("node", "size_kib", "total", "free", "surplus", "reserved",
                                   "grown", "claimed", "allocatable"), int))
    for size in document["sizes"]:
        has(size, size_kib=int, resv=int, reserved_floating=int, default=bool)
    same([size["size_kib"] for size in document["sizes"]], harness.sizes(), "sizes")
    pool = next(pool for pool in document["pools"] if pool["size_kib"] == M2)
    same((pool["total"], pool["free"], pool["grown"], pool["claimed"]), (10, 10, 0, 0), "numbers")
    same(pool["allocatable"], 7, "allocatable beside 3 reserved pages, without growth")


def status_forecasts_growth(bench):
    """allocatable counts what could be grown, where that is allowed"""
    set_total(10)
    pool = bench.json("status", conf=bench.conf(DYNAMIC), status=0)["pools"][0]
    check(pool["allocatable"] > 100, f"allocatable is {pool['allocatable']}")
    same(total(), 10, "total")


def claims_json(bench):
    """claims --json says who holds which pages"""
    vm = bench.vm()
    process = bench.run_until_up(vm)
    claim, = bench.claims()
    has(claim, uuid=str, name=str, generation=int, state=str, owner=str, owner_pid=int,
        qemu_pid=int, shared=bool, need=list)
    same((claim["uuid"], claim["name"], claim["state"]), (vm.uuid, vm.name, "running"), "claim")
    same((claim["owner"], claim["owner_pid"]), ("hugevmctl run", process.pid), "owner")
    same(claim["qemu_pid"], vm.qemu(), "QEMU")
    same(claim["need"], [{"node": None, "size_kib": M2, "pages": 128}], "need")
    pool = bench.json("status", conf=bench.conf(), status=0)["pools"][0]
    # handed over: the kernel takes them back, not hugevm
    same((pool["grown"], pool["surplus"], pool["claimed"]), (0, 128, 128), "status")
    holds(bench.ctl("claims", status=0).stdout, vm.uuid, "running", process.pid, vm.qemu())
    bench.end(process, signal.SIGTERM)


def config_json(bench):
    """config --json says where each setting comes from"""
    conf = bench.conf("[hugevm]\ndrop_caches = true\n")
    document = bench.json("config", conf=conf, status=0)
    has(document, version=int, settings=list)
    for setting in document["settings"]:
        has(setting, section=str, key=str, value=str, line=int)
    found = {setting["key"]: setting for setting in document["settings"]}
    same(found["drop_caches"], {"section": "hugevm", "key": "drop_caches", "value": "true",
                                "file": conf, "line": 2}, "drop_caches")
    same(found["compact"]["file"], None, "file of a built-in value")


def plan_json(bench, vm, conf, status, *properties):
    document = json.loads(bench.ctl("--json", "plan", vm.path, *properties, conf=conf,
                                    status=status).stdout)
    has(document, version=int, vm=dict, need=list, shared=bool, steps=list, warnings=list)
    check("refusal" in document, "no refusal")
    same(document["version"], 1, "version")
    if document["refusal"] is not None:
        has(document["refusal"], code=str, message=str, hint=str)
    return document


def plan_that_grows(bench):
    """plan --json names need and growth, and changes nothing"""
    set_total(28)
    before, vm = pools(), bench.vm()
    plan = plan_json(bench, vm, bench.conf(), 0, *HUGE)
    same(plan["vm"], {"uuid": vm.uuid, "name": vm.name}, "vm")
    same(plan["need"], [{"node": None, "size_kib": M2, "pages": 128}], "need")
    same(plan["steps"], [{"action": "grow", "node": 0, "size_kib": M2, "pages": 100}], "steps")
    same((plan["refusal"], plan["shared"], plan["warnings"]), (None, False, []), "the rest")
    same(pools(), before, "pools")


def plan_that_is_refused(bench):
    """a refused plan has exit status 1, the reason on stderr and in the JSON"""
    vm, conf = bench.vm(), bench.conf(STATIC)
    plan = plan_json(bench, vm, conf, 1, *HUGE)
    same((plan["refusal"]["code"], plan["steps"]), ("shortage", []), "refusal")
    holds(plan["refusal"]["message"], "128 pages of 2 MiB", "0 available")
    # the host's free memory moves between the two calls, and the forecast with it
    parts = re.split(r"\d+(?= by growth)", plan["refusal"]["message"])
    one_line_error(bench.ctl("plan", vm.path, *HUGE, conf=conf, status=1), *parts,
                   plan["refusal"]["hint"])


def plan_without_hugepages(bench):
    """the plan of a VM without huge pages is empty, whatever state the host is in"""
    plan = plan_json(bench, bench.vm(), bench.conf("garbage"), 0)
    same((plan["need"], plan["steps"], plan["refusal"]), ([], [], None), "plan")


def usage_errors(bench):
    """what is no correct command line is a usage error, exit status 2"""
    vm = bench.vm()
    for words in ([], ["nonsense"], ["plan"], ["plan", vm.path, "two"], ["--nonsense"],
                  ["status", "--nonsense"], ["status", "operand"], ["release"],
                  ["plan", vm.path, "-p", "hugepages"], ["plan", vm.path, "-p", "=1"],
                  ["run", vm.path, "--for", "-1"], ["run", vm.path, "--for", "soon"],
                  ["release", "junk"], ["release", ""], ["--conf"]):
        done = bench.ctl(*words, status=2)
        holds(done.stderr, "hugevmctl: ")
        same(done.stdout, "", "standard output")


def help_and_version(bench):
    """each command has --help, and there is a version"""
    holds(bench.ctl("--help", status=0).stdout, "run", "plan", "status", "claims", "release",
          "reconcile", "drain", "config", "--root", "--conf", "--json")
    for command in ("run", "plan", "status", "claims", "release", "reconcile", "drain", "config"):
        holds(bench.ctl(command, "--help", status=0).stdout, command)
    holds(bench.ctl("--version", status=0).stdout, "hugevmctl 0.")


def unprivileged(bench, *arguments, **options):
    """As nobody, from a copy that nobody can reach."""
    directory = f"{bench.directory}/bin"
    if not os.path.isdir(directory):
        os.mkdir(directory)
        os.chmod(directory, 0o755)
        for name in (harness.ctl, harness.module,
                     os.path.join(os.path.dirname(harness.module), "hugevm-agent.so")):
            shutil.copy(name, directory)
    done = subprocess.run([f"{directory}/hugevmctl", *arguments], text=True, capture_output=True,
                          user=NOBODY, group=NOBODY, extra_groups=[], timeout=60, check=False)
    if "status" in options:
        same(done.returncode, options["status"], f"{arguments} ({done.stderr.strip()})")
    return done


def reports_as_nobody(bench):
    """status, claims, config and plan work for everybody, beside a running VM"""
    conf, other = bench.conf(), bench.vm()
    process = bench.run_until_up(bench.vm())
    mine = bench.json("status", conf=conf, status=0)
    theirs = json.loads(unprivileged(bench, "--conf", conf, "--json", "status", status=0).stdout)
    for row in (*mine["pools"], *mine["sizes"], *theirs["pools"], *theirs["sizes"]):
        del row["allocatable"]  # a forecast from free memory, which moves
    same(theirs, mine, "status")
    claims = json.loads(unprivileged(bench, "--json", "claims", status=0).stdout)
    same(len(claims["claims"]), 1, "claims")
    unprivileged(bench, "--conf", conf, "config", status=0)
    holds(unprivileged(bench, "--conf", conf, "plan", other.path, *HUGE, status=0).stdout,
          "grow 128 x 2 MiB")
    bench.end(process, signal.SIGTERM)


def changes_as_nobody(bench):
    """release, reconcile, drain and run are for root: exit status 3, and it says so"""
    vm, conf = bench.vm(), bench.conf()
    process = bench.run_until_up(bench.vm())
    before = pools()
    for words in (["release", str(uuids.uuid4())], ["reconcile"], ["drain"],
                  ["--conf", conf, "run", vm.path, *HUGE]):
        one_line_error(unprivileged(bench, *words, status=3), "root")
    same(pools(), before, "pools")
    bench.end(process, signal.SIGTERM)


def output_cannot_be_written(bench):
    """a report that cannot be written is a system error"""
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([harness.ctl, "--conf", bench.conf(), "status"], stdout=full,
                              stderr=subprocess.PIPE, check=False)
    same(done.returncode, 3, "exit status")


# --- bad input --------------------------------------------------------------------------------


def bad_properties(bench):
    """a property that means nothing is refused by plan and run, naming it and its value"""
    before, vm, conf = pools(), bench.vm(), bench.conf()
    for value in ("abc", "99999999999999999999", "2048.5", "\x1b[31m"):
        for command in ("plan", "run"):
            done = bench.ctl(command, vm.path, "-p", f"hugepages={value}", conf=conf, status=1)
            one_line_error(done, "hugepages", value.replace("\x1b", "\\x1b"))
            check("\x1b" not in done.stderr, "an escape character reaches the terminal")
    plan = plan_json(bench, vm, conf, 1, "-p", "hugepages=abc")
    same(plan["refusal"]["code"], "bad-property", "code")
    same(pools(), before, "pools")


def bad_xml(bench):
    """XML that cannot be used is refused by plan and run"""
    path, conf, before = f"{bench.directory}/bad.xml", bench.conf(), pools()
    texts = {
        "empty": "", "truncated": bench.vm().xml[:-20],
        "a DTD": "<!DOCTYPE domain [<!ENTITY a 'b'>]>" + bench.vm().xml,
        "an external entity": "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'>" + bench.vm().xml,
        "no memory": bench.vm().xml.replace("memory", "momory"),
        "memory of 0": bench.vm(memory_mib=0).xml,
        "memory beyond 64 bits": bench.vm(memory_mib=2 ** 60).xml,
        "another document": "<network/>", "binary": "\x00\x01\x02",
    }
    for what, text in texts.items():
        write(path, text)
        for command in ("plan", "run"):
            done = bench.ctl(command, path, *HUGE, conf=conf)
            same(done.returncode, 1, f"exit status of {command}, {what}")
            one_line_error(done)
    same(pools(), before, "pools")


def huge_xml(bench):
    """50 MiB of XML are refused at once, by size"""
    path = write(f"{bench.directory}/huge.xml", bench.vm().xml + " " * (50 * 1024 * 1024))
    begin = time.monotonic()
    for command in ("plan", "run"):
        one_line_error(bench.ctl(command, path, *HUGE, conf=bench.conf(), status=1), "MiB")
    check(time.monotonic() - begin < 5, "that took long")


def missing_xml(bench):
    """an XML file that cannot be read is a system error that names it"""
    one_line_error(bench.ctl("plan", "/nonexistent/vm.xml", status=3), "/nonexistent/vm.xml")
    bench.ctl("plan", bench.directory, status=3)


def names_cannot_forge_lines(bench):
    """a VM's name cannot put lines of its own into messages and reports"""
    vm = bench.vm()
    write(vm.path, vm.xml.replace(vm.name, "a&#10;hugevmctl: all is well"))
    one_line_error(bench.ctl("plan", vm.path, *HUGE, conf=bench.conf(STATIC), status=1))


def bad_configuration(bench):
    """an error in a configuration file names file, line and what is wrong, exit status 3"""
    vm, before = bench.vm(), pools()
    cases = {
        "[hugevm]\ncompcat = true\n": (":2:", "compcat", "compact"),
        "[hugevm]\ncompact = perhaps\n": (":2:", "compact", "perhaps", "true or false"),
        "[performance]\nuse_dynamic_hugepages = true\nuse_dynamic_hugepages = false\n":
            (":3:", "use_dynamic_hugepages", "second time"),
        "[hugevm]\n[hugevm]\n": (":2:", "hugevm", "second time"),
        "no section\n": (":1:",),
        "[hugevm]\nhost_memory_floor = " + "9" * 10000 + "\n": (":2:", "host_memory_floor"),
        "[hugevm]\n" + "k" * 10000 + " = 1\n": (":2:", "kkkk"),
    }
    for text, parts in cases.items():
        conf = bench.conf(text)
        for words in (["config"], ["status"], ["plan", vm.path, *HUGE], ["run", vm.path, *HUGE]):
            done = bench.ctl(*words, conf=conf, status=3)
            one_line_error(done, conf, *parts)
            check(len(done.stderr) < 2000, f"a message of {len(done.stderr)} bytes")
    same(pools(), before, "pools")


def foreign_configuration(bench):
    """what is not ours in vdsm.conf does not matter, not even in lines of 10 kB"""
    conf = bench.conf("[vars]\nlong = " + "x" * 10000 + "\n[performance]\nother = 1\n"
                      "use_dynamic_hugepages = true\n")
    holds(bench.ctl("config", conf=conf, status=0).stdout, "use_dynamic_hugepages = true")


def missing_configuration(bench):
    """a --conf file that is not there is an error"""
    one_line_error(bench.ctl("config", conf="/nonexistent/hugevm.conf", status=3),
                   "/nonexistent/hugevm.conf")


# --- the ledger -------------------------------------------------------------------------------


def damaged():
    return set(glob.glob(f"{LEDGER}.damaged-*"))


def corrupt_ledger(bench):
    """a ledger corrupted while a VM runs is set aside, its copy used, and nothing is lost"""
    for garbage in ("{{{ garbage", "", '{"format": 1}', "[]"):
        before, aside = pools(), damaged()
        process = bench.run_until_up(bench.vm(memory_mib=64))
        write(LEDGER, garbage)
        bench.end(process, signal.SIGTERM)
        pools_become(before, f"pools after the ledger was {garbage!r}")
        new, = damaged() - aside
        same(read(new), garbage, "the ledger that was set aside")
        same(bench.claims(), [], "claims")
        os.unlink(new)


def corrupt_ledger_is_reported(bench):
    """whoever sets a corrupt ledger aside says so"""
    process = bench.run_until_up(bench.vm(memory_mib=64))
    write(LEDGER, "garbage")
    holds(bench.ctl("reconcile", status=0).stderr, "warning", "damaged", "second copy is used")
    same(len(bench.claims()), 1, "claims")
    bench.end(process, signal.SIGTERM)


def corrupt_ledger_as_nobody(bench):
    """a reader without root uses the ledger's second copy, and says what helps where there is none"""
    process = bench.run_until_up(bench.vm(memory_mib=64))
    good = read(COPY)
    write(LEDGER, "garbage")
    found = json.loads(unprivileged(bench, "--json", "claims", status=0).stdout)
    same(len(found["claims"]), 1, "claims from the copy")
    write(COPY, "garbage")
    one_line_error(unprivileged(bench, "claims", status=3), LEDGER, "damaged", "drain as root")
    same((read(LEDGER), read(COPY)), ("garbage", "garbage"), "the ledgers")
    write(COPY, good)
    bench.end(process, signal.SIGTERM)


def both_ledgers_corrupt(bench):
    """with both copies corrupt it says that pages stay, and takes none that it does not know"""
    kept = bench.conf(DYNAMIC + "[hugevm]\nhandover = never\n")
    process = bench.run_until_up(bench.vm(memory_mib=64), conf=kept)
    write(LEDGER, "garbage")
    write(COPY, "garbage")
    holds(bench.ctl("reconcile", status=0).stderr, "warning", "no good copy", "stay in the pools")
    bench.end(process, signal.SIGTERM, status=None)
    same(total(), 32, "total")


def ledger_is_a_directory(bench):
    """a ledger that is a directory is refused with what to do, and nothing is taken"""
    before, vm, conf = pools(), bench.vm(), bench.conf()
    bench.ctl("reconcile", status=0)
    os.makedirs(STATE, exist_ok=True)
    for path in (LEDGER, COPY):
        if os.path.exists(path):
            os.unlink(path)
    os.mkdir(LEDGER)
    for words in (["claims"], ["reconcile"], ["status"], ["release", vm.uuid], ["run", vm.path, *HUGE],
                  ["plan", vm.path, *HUGE]):
        one_line_error(bench.ctl(*words, conf=conf, status=3), LEDGER)
    same(pools(), before, "pools")
    bench.ctl("plan", vm.path, conf=conf, status=0)


def ledger_of_another_boot(bench):
    """a ledger of another boot counts for nothing, and takes no pages from this one"""
    process = bench.run_until_up(bench.vm(memory_mib=64))
    old = json.loads(read(LEDGER))
    bench.end(process, signal.SIGTERM)
    set_total(40)
    old["boot_id"] = str(uuids.uuid4())
    write(LEDGER, json.dumps(old))
    same(bench.claims(), [], "claims")
    bench.ctl("reconcile", status=0)
    same(total(), 40, "total")
    process = bench.run_until_up(bench.vm(memory_mib=128), "--for", "1")
    same(total(), 64, "total while a VM runs")
    bench.end(process)
    until(lambda: total() == 40, "the pages")


def release_of_a_running_vm(bench):
    """release of a running VM is refused with its QEMU's pid, and the claim stays"""
    vm = bench.vm(memory_mib=64)
    process = bench.run_until_up(vm)
    one_line_error(bench.ctl("release", vm.uuid, status=1), vm.uuid, vm.qemu())
    same(len(bench.claims()), 1, "claims")
    same(total(), 32, "total")
    bench.end(process, signal.SIGTERM)


def release_of_an_unknown_vm(bench):
    """release of an unknown VM is done: exit status 0"""
    uuid = str(uuids.uuid4())
    holds(bench.ctl("release", uuid, status=0).stderr, "no claim", uuid)


def release_after_the_end(bench):
    """a VM whose QEMU was killed is let go of, though its run still hangs"""
    before, vm = pools(), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm)
    process.send_signal(signal.SIGSTOP)
    end_process(vm.qemu())
    until(lambda: not vm.qemu(), "QEMU's end")
    same(bench.claims(), [], "claims while the run hangs")
    bench.ctl("release", vm.uuid.upper(), status=0)  # late, and done
    pools_become(before)
    process.send_signal(signal.SIGCONT)
    bench.end(process)
    pools_become(before)


if __name__ == "__main__":
    sys.exit(main([
        status_json, status_forecasts_growth, claims_json, config_json, plan_that_grows,
        plan_that_is_refused, plan_without_hugepages, usage_errors, help_and_version,
        reports_as_nobody, changes_as_nobody, output_cannot_be_written, bad_properties, bad_xml,
        huge_xml, missing_xml, names_cannot_forge_lines, bad_configuration, foreign_configuration,
        missing_configuration, corrupt_ledger, corrupt_ledger_is_reported,
        corrupt_ledger_as_nobody, both_ledgers_corrupt, ledger_is_a_directory,
        ledger_of_another_boot, release_of_a_running_vm, release_of_an_unknown_vm,
        release_after_the_end,
    ]))
