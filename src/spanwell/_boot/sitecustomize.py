"""Runs at the start of every interpreter under `spanwell run` (it stands first in PYTHONPATH). Uses os and sys alone.

It only puts an import hook in place. All else waits in `spanwell.late` until a module that matters is imported.
In a Lambda function (`spanwell lambda`, or the layer's wrapper) `spanwell.aws_lambda.start` begins instead.

A child process may belong to another environment, with no spanwell or another version of it: then this file does
nothing. The user's own sitecustomize, which this one hides, runs afterwards.
"""

import os
import sys


def _start():
    environ = os.environ
    if environ.get("AWS_LAMBDA_RUNTIME_API"):
        _start_lambda(environ)
        return
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    try:
        from spanwell._hook import Hook
        from spanwell._triggers import ALSO_WATCHED, watched_modules
    except ImportError:
        return
    try:
        _watch(Hook, watched_modules().union(ALSO_WATCHED, _handlers(environ)), environ)
    except Exception as error:
        sys.stderr.write("spanwell: nothing is traced: %s: %s\n" % (type(error).__name__, error))


def _start_lambda(environ):
    here = os.path.dirname(os.path.abspath(__file__))
    # The runtime looks whether PYTHONPATH is set before it adds the layers, and children are not traced by it.
    rest = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != here]
    environ.pop("PYTHONPATH", None)
    if rest:
        environ["PYTHONPATH"] = os.pathsep.join(rest)
    try:
        from spanwell.aws_lambda.start import begin
    except ImportError:
        return
    begin(environ)


def _handlers(environ):
    if not environ.get("AWS_LAMBDA_FUNCTION_NAME"):
        return ()
    from spanwell.where import handler_module

    return (handler_module(environ),)


def _watch(make_hook, names, environ):
    def after(name):
        from spanwell import late

        late.imported(name)

    def before(module):
        from spanwell import late

        late.importing(module)

    hook = make_hook(after, before, names)
    hook.install()
    if environ.get("SPANWELL_LAZY_INSTRUMENTATION", "").strip().lower() in ("false", "0", "no", "off"):
        from spanwell import late

        late.everything()
    else:
        hook.watch([name for name in names if name in sys.modules])


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
