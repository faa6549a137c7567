#!/usr/bin/env python3
# SPDX-License-Identifier: 0BSD
"""The host of example-host.c, in Python. Takes hugevm_host.py, to be copied beside it.

usage: example-host.py HUGEVM.SO DOMAIN.xml [ROOT]
"""
import sys

import hugevm_host
from hugevm_host import HugevmError


def start_qemu(xml):
    print(xml)


def wait_for_end():
    print("running", flush=True)
    sys.stdin.read()


def complain(error):
    print(f"error {error.code}: {error.message}\n{error.hint}", file=sys.stderr)


def tell_started(host, claim):
    try:
        host.after_vm_start(claim.uuid, claim.generation)
    except HugevmError as error:  # the VM runs whatever this says
        complain(error)


def run_vm(host, xml):
    claim = host.before_vm_start(xml, flags=hugevm_host.WILL_CALL_LAUNCHING)
    for warning in claim.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if claim.generation == 0:  # a VM without huge pages, nothing more to call
        start_qemu(claim.xml)
        wait_for_end()
        return
    try:
        host.vm_launching(claim.uuid, claim.generation)
        start_qemu(claim.xml)
    except Exception:
        host.vm_start_failed(claim.uuid, claim.generation)
        raise
    tell_started(host, claim)
    wait_for_end()
    host.after_vm_destroy(claim.uuid, claim.generation)


def run_without(xml, problem):
    """The module is missing, or not one for us: other VMs must not suffer from it."""
    if "hugepages" in xml:
        print(f"a VM with huge pages cannot be started: {problem}", file=sys.stderr)
        return 1
    start_qemu(xml)
    wait_for_end()
    return 0


def main(module, path, root=None):
    with open(path, encoding="utf-8") as file:
        xml = file.read()
    try:
        host = hugevm_host.Host(module, name="example-host", root=root)
    except (OSError, AttributeError, HugevmError) as problem:
        return run_without(xml, problem)
    try:
        print("plan:", host.plan(xml).json)
        run_vm(host, xml)
    except HugevmError as error:
        complain(error)
        return 1
    finally:
        host.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
