#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts the test cases of a meson run and says what was skipped, and why.

usage: summary.py MESON_LOGS/testlog.json

meson's own summary counts programs, and its JUnit file loses programs that
crashed. So the TAP that each test printed is counted here; a program that failed
without saying which case counts as one failure; what it said around a failed
case is repeated, and at most TOLD lines of it. The last line is
"N passed, N failed, N skipped". Exit status 1 where any case failed or where
there were none.
"""
import json
import re
import sys

POINT = re.compile(r"^(not )?ok\b[ \t]*\d*[ \t]*(.*)$", re.MULTILINE)
SKIP = re.compile(r"#[ \t]*SKIP\b[ \t]*(.*)$", re.IGNORECASE)
SKIP_ALL = re.compile(r"^1\.\.0[ \t]*#[ \t]*(?:SKIP[ \t]*)?(.*)$", re.MULTILINE | re.IGNORECASE)
GOOD = {"OK", "SKIP", "EXPECTEDFAIL"}
TOLD = 40


def cases(test):
    """(kind, text) of each case of one test program."""
    output = test.get("stdout", "")
    seen = []
    for failed, text in POINT.findall(output):
        skip = SKIP.search(text)
        if failed:
            seen.append(("failed", text))
        else:
            seen.append(("skipped", text) if skip else ("passed", text))
    skip_all = SKIP_ALL.search(output)
    if not seen and skip_all:
        seen.append(("skipped", skip_all.group(1) or "no reason given"))
    if test["result"] not in GOOD and not any(kind == "failed" for kind, _ in seen):
        seen.append(("failed", f"the program ended with {test['result']}"))
    if not seen:
        seen.append(("skipped" if test["result"] == "SKIP" else "passed", "no TAP output"))
    return seen


def told_around_failures(test):
    """The comments around each failed case; all that is left where the program broke off."""
    comments, told, has_failed = [], [], False
    for line in test.get("stdout", "").splitlines():
        if line.startswith("#"):
            comments.append(line)
        elif POINT.match(line):
            is_failure = line.startswith("not ok")
            if is_failure or has_failed:
                told += comments[-TOLD:]
            told += [line] if is_failure else []
            comments, has_failed = [], is_failure
    if test["result"] not in GOOD:
        told += comments[-TOLD:]
    return told


def main(path):
    count = {"passed": 0, "failed": 0, "skipped": 0}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            test = json.loads(line)
            for said in told_around_failures(test):
                print(f"{test['name']}: {said}")
            for kind, text in cases(test):
                count[kind] += 1
                if kind != "passed":
                    print(f"{kind}: {test['name']}: {text}")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
