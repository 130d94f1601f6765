"""Run one command and write what it cost to a file descriptor: `spawn.py FD COMMAND…`.

A process of its own, and a small one, because Linux counts the memory of the process that starts a child
into the child's peak (the old address space is weighed at exec). So it imports only os, sys and time. Writes
`exit-code user-seconds system-seconds wall-seconds peak-rss monotonic-end`, the peak in the kernel's unit.
"""

import os
import sys
import time


def main() -> None:
    report, command = int(sys.argv[1]), sys.argv[2:]
    begin = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    end = time.monotonic()
    code = os.waitstatus_to_exitcode(status)
    line = f"{code} {usage.ru_utime} {usage.ru_stime} {end - begin} {usage.ru_maxrss} {end}\n"
    os.write(report, line.encode())


main()
