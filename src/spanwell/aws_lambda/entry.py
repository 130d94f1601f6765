"""The handler of the fallback, for a runtime client whose look-up cannot be wrapped: `_HANDLER` names `handler` here.

Imported by the runtime client, so errors of the user's module pass through it as they are.
"""

import os
from importlib import import_module

from spanwell.aws_lambda import start
from spanwell.aws_lambda.bootstrap import looking_up

os.environ["_HANDLER"] = start.handler_name  # as the user's code expects it


def _look_up(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module.replace("/", ".")), attribute)


handler = looking_up(_look_up)(start.handler_name)
