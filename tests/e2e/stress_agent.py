#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One agent with one VM of test-stress.py: claims, launches a guest, reports, ends it, lets go.

usage: stress_agent.py HUGEVM.SO CONF DOMAIN.xml PAGES GUEST-PROGRAM PAUSE-MS

It may be killed at any point, and so may its guest. Prints what it has reached, and "broken: ..."
where the kernel had no page for a guest whose pages were claimed.
"""

import os
import subprocess
import sys
import time

import hugevm_host

GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py")


def say(text):
    print(text, flush=True)


def main():
    module, conf, xml_path, pages, program, pause_ms = sys.argv[1:]

    def pause():
        time.sleep(int(pause_ms) / 1000)

    with open(xml_path, encoding="utf-8") as file:
        xml = file.read()
    host = hugevm_host.Host(module, [conf], name="stress")
    result = host.before_vm_start(xml, {"hugepages": "2048"})
    say("claimed")
    pause()
    host.vm_launching(result.uuid, result.generation)
    say("launching")
    guest = subprocess.Popen([program, GUEST, "touched", pages, "-uuid", result.uuid], text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)  # it may outlive us: no pipe of ours
    answer = guest.stdout.readline().strip()
    if answer == "no pages" or guest.poll() == -7:  # SIGBUS
        say("broken: a claimed VM found no pages")
    say("mapped")
    pause()
    host.after_vm_start(result.uuid, result.generation, guest.pid)
    say("started")
    pause()
    guest.kill()
    guest.wait()
    host.after_vm_destroy(result.uuid, result.generation)
    say("gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
