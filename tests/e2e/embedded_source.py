#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host agent of test-migrate.py: runs a VM with libvirt's embedded driver, and migrates it.

usage: embedded_source.py HUGEVM.SO CONF DOMAIN.xml URI MIGRATE-URI

Says "runs" once the VM does, migrates it when a line comes, says "migrated", and ends with status 0
when hugevm has been told of the VM's end. An embedded driver runs no hooks: all that hugevm hears
it hears from here.
"""

import os
import sys
import tempfile
import threading

import hugevm_host
import libvirt

LIVE = libvirt.VIR_MIGRATE_LIVE


def run_events():
    while True:
        libvirt.virEventRunDefaultImpl()


def embedded():
    root = tempfile.mkdtemp(dir="/run")
    os.chmod(root, 0o755)
    os.mkdir(f"{root}/etc")
    with open(f"{root}/etc/qemu.conf", "w", encoding="ascii") as file:
        file.write('stdio_handler = "file"\nsecurity_driver = "none"\ncgroup_controllers = []\n')
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=run_events, daemon=True).start()
    return libvirt.open(f"qemu:///embed?root={root}")


def main(module, conf, path, uri, migrate_uri):
    connection = embedded()
    connection.getDomainCapabilities(None, None, None, "qemu")  # QEMU is probed before pages wait
    with open(path, encoding="utf-8") as file:
        xml = file.read()
    agent = hugevm_host.Host(module, [conf])
    result = agent.before_vm_start(xml)
    agent.vm_launching(result.uuid, result.generation)
    domain = connection.createXML(result.xml)
    agent.after_vm_start(result.uuid, result.generation)
    print("runs", flush=True)
    sys.stdin.readline()
    domain.migrate(libvirt.open(uri), LIVE, None, migrate_uri)
    print("migrated", flush=True)
    agent.after_vm_destroy(result.uuid, result.generation)
    agent.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
