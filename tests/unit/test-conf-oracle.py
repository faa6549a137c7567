#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares core/conf-file.c with Python's configparser on generated files.

usage: test-conf-oracle.py CONF-DUMP [SEED [CASES]]

VDSM reads its configuration with configparser, so configparser decides what a
file means. Both sides refusing a file, or a value, counts as agreement.
"""

import configparser
import io
import pathlib
import random
import subprocess
import sys
import tempfile
import urllib.parse

SEED = 20240229
CASES = 4000
SHOWN_FAILURES = 5

SPACES = ["", " ", "  ", "    ", "\t", "\t ", "\u00a0", "\u3000", "\x0b", "\x1c "]
ENDS = ["\n"] * 12 + ["\r\n", "\r", "\x0b\n", " \n", "\u2028\n", "\x85", "\x1c\n", "\t\r\n"]
SECTIONS = ["performance", "hugevm", "vars", "DEFAULT", "default", "Hugevm", "a]b", "x = y", "é"]
KEYS = ["a", "b", "c", "reserved", "strict_page_size", "two words", "É", "é", "[x", "İ", "ß",
        "K", "A", "key.dot", "(p", "\ufeff", "%", "a\u00a0b"]
DELIMITERS = ["=", ":", " = ", " : ", "= ", "\t:\t", " =", "==", " := ", "\u2003=\u2003"]
WORDS = ["1", "true", "2M", "size:2M,count:64", "x", "# no comment", "; neither", " ;", " #", "=",
         "[s]", "[", "]", "é", "\u2028", "\t", "100%%", "%%", "%%%%", "5%", "%", "%(", "%()s",
         "%(a)", "%(a", "%(a)s", "%(B)s", "%(c)s", "%(reserved)s", "%(nobody)s", "%(two words)s",
         "%%(a)s", "%(É)s", "%(K)s", "%(a)s%(b)s", "%(a\n b)s", "\"q\"", "\\n"]

# What a generator finds too seldom.
CORNERS = [
    "", "\n", "[a]", "[a]\n[a]", "[DEFAULT]\n[DEFAULT]\nx=1\n[DEFAULT]", "[DEFAULT]\nx=1\nX=2",
    "[]\n", "[]]\nk=1", "[a] k=1\nx=2", "[a]]b]\nk=1", "x=1\n[a]", "  [a]\n  k=1\n    2\n  l=3",
    "[a]\nk\n", "[a]\n=1", "[a]\n:", "[a]\nk=\n\n\n", "[a]\nk=\n\n  v\n\n  w\n\n[b]\n",
    "[a]\nk=1\n  # c\n  2", "[a]\nk=1\n\n  ; c\n\n  2", "[a]\nk=1 # c\nl=2 ; d", "[a]\n  k=1\n l=2",
    "[a]\nk=1\n  l=2", "[a]\nk=1\n  [b]\n", "[a]\n k=1\n [b]\n", "[a]\nk=1\n# c\n  2",
    "[a]\n\n  k=1\n\n    \n   2", "[a]\nk = a\rl = b\r\nm = c", "\ufeff[a]\nk=1", "[a]\nk=1\0",
    "[a]\nk=1\x85\n\x85 2", "[a]\nk=1\n\u00a0\u00a02\n \u3000", "[a]\nK=1\n\u212a=2", "[a]\nÉ=1\né=2",
    "[a]\nx=%(x)s", "[a]\nx=%(y)s\ny=%(x)s", "[DEFAULT]\nd=%(k)s\n[a]\nk=1\n[b]\nk=2",
    "[DEFAULT]\nk=d\n[a]\nl=%(k)s\n[b]\nk=b\nl=%(k)s", "[a]\nx=%\n[b]\ny=1", "[a]\nx=%%(y)s\ny=%%",
    "[a]\n" + "".join(f"k{i}=%(k{i + 1})s\n" for i in range(10)) + "k10=end\n",
    "[a]\n" + "".join(f"k{i}=%(k{i + 1})s\n" for i in range(11)) + "k11=end\n",
    "[a]\n" + "".join(f"k{i}=%(k{i + 1})s\n" for i in range(9)) + "k9=%%\n",
    "[a]\n" + "".join(f"k{i}=%(k{i + 1})s\n" for i in range(10)) + "k10=%%\n",
    "[a]\nlong=" + "x" * 10000, "[a]\n" + "k" * 10000 + "=1\n", "[a]\nk=" + "\n  y" * 5000,
]


def generate_line(rng):
    """One line, without its end, of about the dialect."""
    kind = rng.random()
    indent = rng.choice(SPACES) if rng.random() < 0.3 else ""
    if kind < 0.18:
        tail = rng.choice(["", "", "", " ", " # x", "]", " = y"])
        return f"{indent}[{rng.choice(SECTIONS)}]{tail}"
    if kind < 0.26:
        return indent + rng.choice("#;") + rng.choice(WORDS)
    if kind < 0.36:
        return rng.choice(SPACES)
    if kind < 0.38:
        return indent + rng.choice(WORDS + KEYS)
    value = "".join(rng.choice(WORDS) for _ in range(rng.choice([0, 1, 1, 1, 2, 3])))
    if kind < 0.52:
        return rng.choice(SPACES) + " " + value
    key = rng.choice(KEYS)
    if rng.random() < 0.6:
        key += str(rng.randrange(100))  # else almost every file would hold a duplicate
    return indent + key + rng.choice(DELIMITERS) + value


def generate(rng):
    lines = [] if rng.random() < 0.05 else [f"[{rng.choice(SECTIONS)}]\n"]
    for _ in range(rng.randrange(14)):
        lines.append(generate_line(rng) + rng.choice(ENDS))
    text = "".join(lines)
    return text[:-1] if rng.random() < 0.3 else text


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            data[at:at + 1] = bytes([rng.choice(b"\n\n\r\r\t    [[]]==::%%%()s##;;A\x0b\x1c\0\xc3")])
        elif kind == 1:
            data[at:at] = bytes([rng.randrange(256 if rng.random() < 0.2 else 128)])
        elif kind == 2:
            del data[at:at + rng.choice([1, 1, 5])]
        else:
            data[at:at] = data[rng.randrange(len(data) + 1):][:rng.randrange(20)]
    return bytes(data)


def read_with_python(files):
    """The set of (kind, section, key[, value]) that conf-dump should print; None: error."""
    parser = configparser.ConfigParser()
    for data in files:
        if b"\0" in data:
            return None  # configparser takes it; ours is a documented difference
        try:
            parser.read_file(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"), "file")
        except (configparser.Error, UnicodeDecodeError):
            return None
    expected = set()
    sections = [name for name in parser.sections() if parser._sections[name]]
    for section in sections + ["DEFAULT"]:
        keys = parser.defaults() if section == "DEFAULT" else parser.options(section)
        for key in keys:
            try:
                expected.add(("value", section, key, parser.get(section, key)))
            except configparser.InterpolationError:
                expected.add(("bad", section, key))
    return expected


def read_answer(lines):
    answer = set()
    for line in lines:
        if line == "error":
            return None
        answer.add(tuple(urllib.parse.unquote(field) for field in line.split(" ")))
    return answer


def run_dump(program, directory, cases):
    """Answers of conf-dump to all cases; a crash gives fewer of them."""
    requests = []
    for number, files in enumerate(cases):
        names = []
        for i, data in enumerate(files):
            path = directory / f"{number}-{i}.conf"
            path.write_bytes(data)
            names.append(str(path))
        requests.append("\t".join(names))
    done = subprocess.run([program], input="\n".join(requests) + "\n", stdout=subprocess.PIPE,
                          encoding="utf-8", timeout=60)
    answers, lines = [], []
    for line in done.stdout.splitlines():
        if line == ".":
            answers.append(read_answer(lines))
            lines = []
        else:
            lines.append(line)
    return answers, done.returncode


def show(files, expected, answer):
    for data in files:
        print("# file:", repr(data))
    if expected is None or answer is None:
        print("# configparser:", "error" if expected is None else sorted(expected))
        print("# conf-dump:   ", "error" if answer is None else sorted(answer))
        return
    print("# configparser only:", sorted(expected - answer))
    print("# conf-dump only:   ", sorted(answer - expected))


def compare(program, cases):
    """Number of differences, and of cases that configparser reads without error."""
    with tempfile.TemporaryDirectory(prefix="hugevm-oracle-") as directory:
        answers, status = run_dump(program, pathlib.Path(directory), cases)
    if status != 0 or len(answers) != len(cases):
        print(f"# conf-dump: status {status}, {len(answers)} answers to {len(cases)} cases")
        if len(answers) < len(cases):
            print("# file:", cases[len(answers)])
        return len(cases), 0
    differences = readable = 0
    for files, answer in zip(cases, answers):
        expected = read_with_python(files)
        readable += expected is not None
        if expected != answer:
            differences += 1
            if differences <= SHOWN_FAILURES:
                show(files, expected, answer)
    return differences, readable


def main():
    program = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    count = int(sys.argv[3]) if len(sys.argv) > 3 else CASES
    rng = random.Random(seed)
    generated = [[generate(rng).encode()] for _ in range(count // 2)]
    mutated = [[mutate(rng, generate(rng).encode())] for _ in range(count // 4)]
    merged = [[generate(rng).encode() for _ in range(rng.choice([2, 2, 3]))]
              for _ in range(count // 4)]
    groups = [
        ("corner cases", [[text.encode()] for text in CORNERS]),
        ("generated files", generated),
        ("files with damaged bytes", mutated),
        ("several files, merged", merged),
    ]
    print(f"1..{len(groups)}")
    print(f"# seed {seed}")
    failed = False
    for number, (name, cases) in enumerate(groups, start=1):
        differences, readable = compare(program, cases)
        # A group that is all errors, or none, would compare nothing worth while.
        ok = differences == 0 and 0.1 * len(cases) < readable < 0.95 * len(cases)
        failed |= not ok
        print(f"# {readable} of {len(cases)} cases are readable, {differences} differences")
        print("ok" if ok else "not ok", number, "-", name, "mean the same as to configparser")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
