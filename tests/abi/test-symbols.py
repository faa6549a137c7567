#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the built objects export, import and link, read with binutils and ldd.

usage: test-symbols.py --module SO --agent SO --hugevmctl PROGRAM --map VERSION-SCRIPT
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

# What every shared object of gcc and clang may leave undefined.
USUAL_WEAK = {"__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable",
              "_ITM_registerTMCloneTable"}
SANITIZERS = ("__asan_", "__lsan_", "__tsan_", "__ubsan_", "__sanitizer_")


def output(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def same(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {sorted(found)} instead of {sorted(expected)}")


def dynamic_symbols(path):
    """(name without version, binding, section index) of each dynamic symbol."""
    rows = []
    for line in output("readelf", "-W", "--dyn-syms", path).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit():
            rows.append((fields[7].split("@")[0], fields[4], fields[6]))
    return rows


def exported(path):
    # a version script defines its version's name as an absolute symbol
    return {name for name, _, index in dynamic_symbols(path) if index not in ("UND", "ABS")}


def promised(version_script):
    with open(version_script, encoding="ascii") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    match = re.search(r"global:(.*?)local:\s*\*\s*;", text, re.DOTALL)
    if match is None:
        raise AssertionError("the version script has no 'local: *'")
    return {name.strip() for name in match[1].split(";") if name.strip()}


def linked(path):
    """All objects that the dynamic loader would load with this one."""
    names = set()
    for line in output("ldd", path).splitlines():
        if "not found" in line:
            raise AssertionError(line.strip())
        names.add(os.path.basename(line.split()[0]))
    return names


def links_libvirt(path):
    return any(name.startswith("libvirt") for name in linked(path))


def flags(path):
    text = output("readelf", "-W", "-d", path)
    return set(re.findall(r"[A-Z]{2,}", " ".join(re.findall(r"Flags: (.*)", text))))


def loaded_by(program, *arguments):
    """Objects that a run of the program really loads, by dlopen too."""
    with tempfile.TemporaryDirectory() as directory:
        environment = dict(os.environ, LD_DEBUG="files", LD_DEBUG_OUTPUT=f"{directory}/trace")
        subprocess.run([program, *arguments], env=environment, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        text = ""
        for name in os.listdir(directory):
            with open(f"{directory}/{name}", encoding="utf-8", errors="replace") as file:
                text += file.read()
    return {os.path.basename(path) for path in re.findall(r"calling init: (\S+)", text)}


def exports_equal_script(a):
    same(exported(a.module), promised(a.map), "exported")


def exports_one_function(a):
    same(promised(a.map), {"hugevm_plugin_negotiate"}, "the version script promises")


def agent_exports_its_functions(a):
    same(exported(a.agent), {"hugevm_agent_define", "hugevm_agent_run",
                             "hugevm_agent_running"}, "exported")


def weak_is_usual(a):
    weak = {name for name, binding, index in dynamic_symbols(a.module)
            if binding == "WEAK" and index == "UND" and not name.startswith(SANITIZERS)}
    same(weak - USUAL_WEAK, set(), "undefined weak symbols")


def has_nodelete(a):
    if "NODELETE" not in flags(a.module):
        raise AssertionError(f"flags are {sorted(flags(a.module))}")


def has_no_text_relocations(a):
    if "TEXTREL" in output("readelf", "-W", "-d", a.module):
        raise AssertionError("TEXTREL")


def has_no_run_path_outside(a):
    text = output("readelf", "-W", "-d", a.module)
    paths = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", text)
    same(set(paths), set(), "run paths")


def module_without_libvirt(a):
    same({n for n in linked(a.module) if n.startswith("libvirt")}, set(), "libvirt's objects")


def hugevmctl_without_libvirt(a):
    same({n for n in linked(a.hugevmctl) if n.startswith("libvirt")}, set(), "libvirt's objects")


def agent_with_libvirt(a):
    if not links_libvirt(a.agent):
        raise AssertionError("libvirt is not seen where it is linked")


def commands_load_no_libvirt(a):
    for command in (["config"], ["status"], ["claims"], ["plan", "/dev/null"], ["--help"]):
        loaded = loaded_by(a.hugevmctl, "--root", "/nonexistent", *command)
        if not any(name.startswith("libglib") for name in loaded):
            raise AssertionError(f"nothing seen of what {command[0]} loads")
        same({n for n in loaded if n.startswith("libvirt")}, set(), f"loaded by {command[0]}")


POINTS = [
    ("the module exports exactly what its version script says", exports_equal_script),
    ("that is hugevm_plugin_negotiate and nothing else", exports_one_function),
    ("the agent's object exports what hugevmctl loads, and nothing else", agent_exports_its_functions),
    ("the module leaves no weak symbol undefined but the usual ones", weak_is_usual),
    ("the module is marked NODELETE", has_nodelete),
    ("the module has no text relocations", has_no_text_relocations),
    ("the module has no run path", has_no_run_path_outside),
    ("the module links no libvirt, not through others either", module_without_libvirt),
    ("hugevmctl links no libvirt, not through others either", hugevmctl_without_libvirt),
    ("the check is one: it sees libvirt in the agent's object", agent_with_libvirt),
    ("no command but run loads libvirt", commands_load_no_libvirt),
]


def main():
    parser = argparse.ArgumentParser()
    for name in ("module", "agent", "hugevmctl", "map"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    os.environ["LC_ALL"] = "C"
    print(f"1..{len(POINTS)}")
    failed = False
    for number, (name, check) in enumerate(POINTS, 1):
        problem = None
        try:
            check(arguments)
        except (AssertionError, OSError) as error:
            problem = str(error)
            print(f"# {problem}")
        failed = failed or problem is not None
        print(f"{'ok' if problem is None else 'not ok'} {number} - {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
