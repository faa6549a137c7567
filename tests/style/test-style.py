#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""House rules that a program can check. usage: test-style.py SOURCE_ROOT (TAP)"""
import pathlib
import re
import shutil
import subprocess
import sys

FUNCTION_MAX_LINES = 80
PARAMETERS_MAX = 5
# signatures that others prescribe: the ABI's slots, libxml2's SAX callbacks
PRESCRIBED = {"plugin/module.c", "core/domain-dom.c"}
GENERATED = {"build", ".git", "LICENSES", "corpus"}
CODE = {".c", ".h"}


def files(root):
    for path in sorted(root.rglob("*")):
        if path.is_file() and not GENERATED & set(path.relative_to(root).parts):
            if "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield path


def code_files(root):
    return [path for path in files(root) if path.suffix in CODE]


def without_spdx(root):
    return [str(path.relative_to(root)) for path in files(root)
            if b"SPDX-License-Identifier: " not in path.read_bytes()[:400]]


def functions(path):
    """(name, first line, lines): a body is what stands between '{' and '}' in column 0."""
    begin = None
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line == "{" and number > 0 and not lines[number - 1].endswith("="):
            begin = number
        elif line == "}" and begin is not None:
            yield signature(lines, begin), begin + 1, number - begin - 1
            begin = None


def signature(lines, brace):
    first = brace - 1
    while first > 0 and lines[first - 1][:1] not in ("", "}", "#", " ", "/") \
            and not lines[first - 1].endswith(("*/", ";")):
        first -= 1
    while first > 0 and lines[first].startswith(" "):
        first -= 1
    return " ".join(lines[first:brace])


def long_functions(root):
    return [f"{path.relative_to(root)}:{line}: {length} lines"
            for path in code_files(root) for _, line, length in functions(path)
            if length > FUNCTION_MAX_LINES]


def parameters(text):
    inside = re.sub(r"\([^()]*\)\(", "(", text)
    match = re.search(r"\((.*)\)", inside)
    if match is None:
        return 0
    return len([one for one in match.group(1).split(",") if "GError **error" not in one])


def many_parameters(root):
    return [f"{path.relative_to(root)}:{line}: {parameters(text)} parameters"
            for path in code_files(root)
            if str(path.relative_to(root)) not in PRESCRIBED and "tests" not in path.parts
            for text, line, _ in functions(path) if parameters(text) > PARAMETERS_MAX]


def unformatted(root):
    result = []
    for path in code_files(root):
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", str(path)],
                             capture_output=True, text=True, check=False)
        if run.returncode != 0:
            result.append(f"{path.relative_to(root)}: clang-format -i changes it")
    return result


def core_knows_plugin(root):
    return [str(path.relative_to(root)) for path in code_files(root / "core")
            if re.search(r'#include "(hugevm/|agent|loader|hugevmctl)', path.read_text())]


def main(root):
    checks = [
        ("every file has an SPDX line", without_spdx),
        (f"no function is longer than {FUNCTION_MAX_LINES} lines", long_functions),
        (f"no function takes more than {PARAMETERS_MAX} parameters", many_parameters),
        ("core includes nothing of plugin", core_knows_plugin),
        ("clang-format changes nothing", unformatted),
    ]
    print(f"1..{len(checks)}")
    for number, (name, check) in enumerate(checks, 1):
        if check is unformatted and shutil.which("clang-format") is None:
            print(f"ok {number} - {name} # SKIP clang-format is not installed")
            continue
        found = check(root)
        print(f"{'not ok' if found else 'ok'} {number} - {name}")
        for line in found:
            print(f"# {line}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
