#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bash offers behind hugevmctl. usage: test-completion.py HUGEVMCTL COMPLETION (TAP)"""
import os
import pathlib
import re
import subprocess
import sys

SCRIPT = """source "$COMPLETION" || exit 1
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_hugevmctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


class Bash:
    def __init__(self, ctl, completion):
        self.ctl = pathlib.Path(ctl).resolve()
        self.completion = str(pathlib.Path(completion).resolve())

    def offers(self, *words):
        """For the last of the words behind hugevmctl."""
        path = f"{self.ctl.parent}:{os.environ['PATH']}"
        run = subprocess.run(["bash", "--norc", "-c", SCRIPT, "bash", "hugevmctl", *words],
                             capture_output=True, text=True, check=False,
                             env=dict(os.environ, PATH=path, COMPLETION=self.completion))
        if run.returncode != 0 or run.stderr:
            raise RuntimeError(run.stderr)
        return run.stdout.split()

    def help(self, *words):
        return subprocess.run([self.ctl, *words, "--help"], capture_output=True, text=True,
                              check=True, env=dict(os.environ, LC_ALL="C")).stdout


def check_commands(bash):
    commands = re.findall(r"^  ([a-z]+)  ", bash.help().split("Commands:")[1], re.MULTILINE)
    offered = bash.offers("")
    return [] if offered == commands and "verify" in offered else [f"{offered}, not {commands}"]


def check_beginning(bash):
    offered = bash.offers("do")
    return [] if offered == ["doctor"] else [str(offered)]


def check_options(bash):
    offered, options = bash.offers("run", "--"), re.findall(r"--[a-z-]+", bash.help("run"))
    wrong = [] if set(offered) == set(options) and "--for" in offered else [str(offered)]
    return wrong + [f"plan has no {one}" for one in bash.offers("plan", "--c") if one == "--connect"]


def check_behind_options(bash):
    """The file of an option is no command."""
    wrong = [str(words) for words in (["--conf", "x", "conf"], ["--json", "conf"])
             if bash.offers(*words) != ["config"]]
    return wrong + bash.offers("status", "")


def check_properties(bash):
    offered = bash.offers("plan", "vm.xml", "--property", "hugep")
    return [] if offered == ["hugepages=", "hugepages_shared="] else [str(offered)]


def check_set(bash):
    offered = bash.offers("set", "vm", "")
    return [] if offered == ["hugepages=", "shared="] else [str(offered)]


def main(*arguments):
    checks = [
        ("every command is offered, as --help lists them", check_commands),
        ("a beginning is made a command", check_beginning),
        ("the options of a command are offered, and no other's", check_options),
        ("a command is found behind options", check_behind_options),
        ("properties are offered", check_properties),
        ("behind a VM, set offers what it sets", check_set),
    ]
    bash = Bash(*arguments)
    print(f"1..{len(checks)}")
    for number, (name, check) in enumerate(checks, 1):
        try:
            wrong = check(bash)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            wrong = str(error).splitlines()
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}")
        for line in wrong:
            print(f"# {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
