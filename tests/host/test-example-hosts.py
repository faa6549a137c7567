#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The example hosts of doc/ on a fixture tree, as any user: they do the same in each language.

usage: test-example-hosts.py BUILD_ROOT SOURCE_ROOT LANGUAGE... (TAP)
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

UUID = "5f0c9a52-6c3d-4a55-9d0e-0a4f7a1c2b3d"
HUGE = "<memoryBacking><hugepages/></memoryBacking>"
# whoever claims pages is looked for in the tree
IN_TREE = 'mkdir -p "$0/proc/$$" && cat "/proc/$$/stat" >"$0/proc/$$/stat" && exec "$@"'
PATIENCE_S = 60


def domain(memory_mib, backing):
    return (f"<domain type='kvm'><name>example</name><uuid>{UUID}</uuid>"
            f"<memory unit='MiB'>{memory_mib}</memory>{backing}</domain>")


class Failure(Exception):
    pass


def same(found, expected, what):
    if found != expected:
        raise Failure(f"{what}: {found!r} instead of {expected!r}")


def holds(text, *parts):
    for part in parts:
        if part not in text:
            raise Failure(f"'{part}' is not in: {text}")


class Bench:
    """A fixture tree, and an example host to run on it."""

    def __init__(self, build, source, command, directory):
        self.build, self.source, self.command = build, source, command
        self.root = pathlib.Path(tempfile.mkdtemp(dir=directory))
        self.module = build / "plugin/hugevm.so"
        subprocess.run([build / "tests/host/make-tree", source / "tests/host/trees/one-node.txt",
                        self.root], check=True)

    def start(self, xml):
        path = self.root / "vm.xml"
        path.write_text(xml, encoding="utf-8")
        environment = dict(os.environ, PYTHONPATH=str(self.source / "tests/e2e"),
                           PYTHONDONTWRITEBYTECODE="1")
        return subprocess.Popen(
            ["sh", "-c", IN_TREE, self.root, *self.command, self.module, path, self.root],
            text=True, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def run(self, xml):
        """To its end; the VM ends at once: (status, output, errors)."""
        process = self.start(xml)
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err

    def claims(self):
        run = subprocess.run([self.build / "plugin/hugevmctl", "--root", self.root, "--json",
                              "claims"], capture_output=True, text=True, check=True)
        return json.loads(run.stdout)["claims"]


def whole_life(bench):
    """a VM has its pages while it runs, and no claim afterwards"""
    process = bench.start(domain(64, HUGE))
    lines = []
    while not lines or lines[-1] not in ("running\n", ""):
        lines.append(process.stdout.readline())
    plan, _, rest = "".join(lines).removeprefix("plan: ").rpartition("<domain")
    claims = [(claim["owner"], claim["state"], claim["generation"],
               sum(need["pages"] for need in claim["need"])) for claim in bench.claims()]
    _, err = process.communicate(timeout=PATIENCE_S)
    same((process.returncode, err), (0, ""), "exit status and errors")
    same(json.loads(plan)["need"][0]["pages"], 32, "pages of the plan")
    same("<domain" + rest, domain(64, HUGE) + "\nrunning\n", "XML to start")
    same(claims, [("example-host", "running", 1, 32)], "claims while it runs")
    same(bench.claims(), [], "claims afterwards")


def refused(bench):
    """a VM that lacks pages is refused with reason and advice, and is not started"""
    status, out, err = bench.run(domain(400, HUGE))
    same((status, "running" in out), (1, False), "exit status, and whether it was started")
    holds(err, "error 8: ", "wants 200 pages of 2 MiB", "use_dynamic_hugepages")
    same(bench.claims(), [], "claims")


def normal_pages(bench):
    """a VM without huge pages is started as it is, whatever the configuration says"""
    conf = bench.root / "etc/hugevm/hugevm.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("[[[ broken")
    status, out, err = bench.run(domain(64, ""))
    same((status, err), (0, ""), "exit status and errors")
    holds(out, f"{domain(64, '')}\nrunning\n")
    same((bench.root / "run/hugevm").exists(), False, "whether there is a ledger")


def without(bench, *reasons):
    status, out, err = bench.run(domain(64, ""))
    same((status, out, err), (0, f"{domain(64, '')}\nrunning\n", ""), "a VM without huge pages")
    status, out, err = bench.run(domain(64, HUGE))
    same((status, out), (1, ""), "exit status and output of a VM with huge pages")
    holds(err, "a VM with huge pages cannot be started: ", *reasons)


def no_module(bench):
    """where there is no module, VMs without huge pages are started all the same"""
    bench.module = bench.root / "hugevm.so"
    without(bench, str(bench.module))


def other_library(bench):
    """where the module is another library, too"""
    bench.module = bench.build / "plugin/hugevm-agent.so"
    without(bench, "hugevm")


def other_major(bench):
    """where the module is of another major version, too"""
    bench.module = bench.build / "tests/host/other-major.so"
    without(bench, "ABI 1.0", "2.0")


CASES = (whole_life, refused, normal_pages, no_module, other_library, other_major)


def build_go(build, source, directory):
    environment = dict(os.environ, GO111MODULE="off", GOFLAGS="", GOCACHE=f"{directory}/go-cache",
                       PKG_CONFIG_PATH=str(build / "meson-uninstalled"),
                       CGO_CFLAGS=f"-O1 -Wall -Werror -I{source / 'include'}")
    program = pathlib.Path(directory) / "example-host-go"
    run = subprocess.run(["go", "build", "-o", program, source / "doc/example-host.go"],
                         env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise Failure(run.stderr)
    return [program]


def command_for(language, build, source, directory):
    """The words that run the example; a text: why it cannot be run here."""
    if language == "C":
        return [build / "doc/example-host"]
    if language == "Python":
        return [sys.executable, source / "doc/example-host.py"]
    return build_go(build, source, directory) if shutil.which("go") else "go is not installed"


def problem_of(case, *bench):
    try:
        case(Bench(*bench))
    except (Failure, ValueError, KeyError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def main(build, source, *languages):
    build, source = (pathlib.Path(path).resolve() for path in (build, source))
    print(f"1..{len(languages) * len(CASES)}")
    number = 0
    with tempfile.TemporaryDirectory(prefix="hugevm-examples-") as directory:
        for language in languages:
            command = command_for(language, build, source, directory)
            for case in CASES:
                number += 1
                name = f"{number} - {language}: {case.__doc__}"
                if isinstance(command, str):
                    print(f"ok {name} # SKIP {command}")
                    continue
                problem = problem_of(case, build, source, command, directory)
                print(f"{'not ok' if problem else 'ok'} {name}", flush=True)
                for line in (problem or "").splitlines():
                    print(f"# {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
