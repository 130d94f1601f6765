"""A process that traces, then imports concurrent.futures' thread pool, then forks: the child lives and traces."""

import os
import signal
import sqlite3
import sys

sqlite3.connect(":memory:").cursor().execute("SELECT 'parent'")

import concurrent.futures.thread  # noqa: E402, F401

child = os.fork()
if child == 0:
    sqlite3.connect(":memory:").cursor().execute("SELECT 'child'")
    sys.exit(0)

signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
signal.alarm(15)
_, status = os.waitpid(child, 0)
print("child ended" if status == 0 else "child hung or failed")
