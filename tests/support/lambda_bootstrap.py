"""What the managed runtime runs before the runtime client, in its order; copied into the folder of the runtime.

Follows the public base images: the runtime client is imported first, the layers' folders become site folders (their
.pth files run) unless the user set PYTHONPATH, and the handler's name is read only afterwards.
"""

import json  # noqa: F401
import logging  # noqa: F401
import os
import site
import sys
import time  # noqa: F401
import traceback  # noqa: F401
import warnings  # noqa: F401

import awslambdaric.__main__ as client

LAYERS = "/opt/python"
OWN = [path for path in sys.path if path.endswith("site-packages")]


def main():
    task = os.environ["LAMBDA_TASK_ROOT"]
    versioned = f"{LAYERS}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    free = "PYTHONPATH" not in os.environ
    if free:
        sys.path[:0] = [versioned, LAYERS, *OWN]
    sys.path.insert(0, task)
    site.addsitedir(task)
    if free:
        site.addsitedir(versioned)
        site.addsitedir(LAYERS)
        os.environ["PYTHONPATH"] = os.environ["LAMBDA_RUNTIME_DIR"]
    client.main([task, os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
