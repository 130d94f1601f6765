"""Runs at the start of every interpreter under `spanwell run` (it stands first in PYTHONPATH).

A child process may belong to another environment, with no spanwell or another version of it: then this file does
nothing. The user's own sitecustomize, which this one hides, runs afterwards.
"""

import sys


def _start():
    try:
        from spanwell._run import start
    except ImportError:
        return
    try:
        start()
    except Exception as error:
        sys.stderr.write("spanwell: nothing is traced: %s: %s\n" % (type(error).__name__, error))


def _give_way(here):
    sys.path[:] = [entry for entry in sys.path if entry != here]
    mine = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if mine is not None:
            sys.modules["sitecustomize"] = mine


_start()
_give_way(__file__[: -len("sitecustomize.py") - 1])
