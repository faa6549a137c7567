#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page in git is the one that the table makes. usage: test-agreements-page.py MAKER PAGE (TAP)"""
import difflib
import pathlib
import subprocess
import sys

made = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout
kept = pathlib.Path(sys.argv[2]).read_text(encoding="utf-8")
print("1..1")
if made == kept:
    print("ok 1 - the page of the agreements is up to date")
else:
    print("not ok 1 - the page of the agreements is up to date\n"
          "# what to do: ninja -C BUILD agreements-page")
    for line in difflib.unified_diff(kept.splitlines(), made.splitlines(), "kept", "made", n=0):
        print(f"# {line}")
sys.exit(made != kept)
