# SPDX-License-Identifier: LGPL-2.1-or-later
"""What VDSM offers to hooks in Python under this name, as far as the tests use it."""

import json
import os
import sys
from xml.dom import minidom


def read_domxml():
    return minidom.parseString(_read("_hook_domxml"))


def write_domxml(document):
    _write("_hook_domxml", document.toxml(encoding="utf-8").decode())


def read_json():
    return json.loads(_read("_hook_json"))


def write_json(data):
    _write("_hook_json", json.dumps(data))


def exit_hook(message="", return_code=2):
    sys.stderr.write(message)
    sys.exit(return_code)


def _read(variable):
    with open(os.environ[variable], encoding="utf-8") as file:
        return file.read()


def _write(variable, text):
    with open(os.environ[variable], "w", encoding="utf-8") as file:
        file.write(text)
