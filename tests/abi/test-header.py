#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles the public header alone, as hosts in C11 and C++17 do, with all warnings as errors.

usage: test-header.py --header FILE -- CC...

The C++ compiler is g++ (package g++), or what CXX names.
"""

import os
import shlex
import subprocess
import sys

FLAGS = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]


def compiles(compiler, arguments, text):
    command = [*compiler, *arguments, *FLAGS, "-"]
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    except OSError as error:
        print(f"# {error}")
        return None
    for line in done.stderr.splitlines():
        print(f"# {line}")
    return done.returncode == 0


def main():
    split = sys.argv.index("--")
    header = os.path.abspath(sys.argv[sys.argv.index("--header") + 1])
    cc = sys.argv[split + 1:]
    cxx = shlex.split(os.environ.get("CXX", "g++"))
    alone = f'#include "{header}"\n'
    twice = alone * 2 + "hugevm_plugin_negotiate_function negotiate = hugevm_plugin_negotiate;\n"
    keyword = alone + "int new;\n"
    c11, cxx17 = ["-x", "c", "-std=c11"], ["-x", "c++", "-std=c++17"]
    points = [
        ("the header compiles alone as C11", cc, c11, alone, True),
        ("it may be included twice in C11", cc, c11, twice, True),
        ("the header compiles alone as C++17", cxx, cxx17, alone, True),
        ("it may be included twice in C++17", cxx, cxx17, twice, True),
        ("the C++ check is one: a C++ keyword as a name is refused", cxx, cxx17, keyword, False),
    ]
    print(f"1..{len(points)}")
    failed = False
    for number, (name, compiler, arguments, text, expected) in enumerate(points, 1):
        passed = compiles(compiler, arguments, text) is expected
        failed = failed or not passed
        print(f"{'ok' if passed else 'not ok'} {number} - {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
