"""The start in a Lambda function: an import hook, and a handler that is wrapped when the runtime client looks it up.

Begun by the layer's `.pth` file, by its wrapper script or by `spanwell lambda`, whichever comes first. Nothing of
OpenTelemetry is imported here: what instruments clients that the function makes at its start waits until the first
invocation that needs it (`wake`), except what would come too late then.
"""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from types import ModuleType
    from typing import Any

RUNTIME = "awslambdaric.bootstrap"
ENTRY = "spanwell.aws_lambda.entry.handler"
"""The handler of the fallback: it gives the user's."""

_SPARED = "wrapt.synchronization"  # may go without asyncio: not worth our imports before the SDK is needed
_TRUE = ("true", "1", "yes", "on")

handler_name = ""
"""The user's handler where `_HANDLER` names ours."""

_state: "_State | None" = None


class _State:
    """What the process has begun with, and the modules that wait for the first invocation that needs the SDK."""

    def __init__(self, waiting: "set[str]") -> None:
        self.began_ns = time.perf_counter_ns()
        self.awake = False
        self.may_wait = waiting
        self.imported: list[str] = []


def off(environ: "Mapping[str, str]") -> bool:
    """Whether nothing is to happen: this is no runtime process of Lambda, or it was switched off."""
    if not environ.get("AWS_LAMBDA_RUNTIME_API"):
        return True
    disabled = environ.get("SPANWELL_DISABLED", "").strip().lower() in _TRUE
    return disabled or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def begin(environ: "MutableMapping[str, str]" = os.environ) -> None:
    """Put the import hook in place, once a process; never raises."""
    global _state
    if _state is not None or off(environ):
        return
    try:
        from spanwell._hook import Hook
        from spanwell._triggers import ALSO_WATCHED, waiting_modules, watched_modules
        from spanwell.aws_lambda import paths
        from spanwell.where import follow_invocations

        _state = _State(waiting_modules())
        paths.begin()
        names = watched_modules().union(ALSO_WATCHED, (RUNTIME,))
        hook = Hook(_after, _before, names)
        hook.install()
        follow_invocations()
        hook.watch([name for name in names if name in sys.modules])
    except Exception as error:
        say(f"nothing is traced: {type(error).__name__}: {error}")


def say(line: str) -> None:
    """One line on stderr: before the runtime client has set logging up there is nowhere else."""
    try:
        sys.stderr.write(f"spanwell: {line}\n")
    except Exception:
        pass


def init_ns() -> int:
    """How long this process has taken so far, in nanoseconds: called when the handler is there."""
    try:
        with open("/proc/self/stat", "rb") as file:
            began = int(file.read().rpartition(b")")[2].split()[19]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        took = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began
    except (OSError, ValueError, IndexError, AttributeError):
        took = 0
    if took <= 0:
        took = time.perf_counter_ns() - _state.began_ns if _state is not None else 0
    return took


# --- imports ------------------------------------------------------------------------------------------------------


def wake() -> None:
    """The SDK is needed: instrument what has been imported, and from now on what will be."""
    state = _state
    if state is None or state.awake or not usable():
        return
    state.awake = True
    names, state.imported = state.imported, []
    if not names:
        return
    from spanwell._collector import without_gc

    with without_gc(settled=True):  # around all of them: each collection in between costs milliseconds
        from spanwell import late

        for name in names:
            late.imported(name)


def usable() -> bool:
    """Whether the OpenTelemetry that is found fits; one that does not is told of once."""
    from spanwell.aws_lambda import paths

    return paths.usable()


def _waits(name: str) -> bool:
    state = _state
    return state is not None and not state.awake and (name in state.may_wait or name == _SPARED)


def _before(module: "ModuleType") -> None:
    name = module.__name__
    if name == RUNTIME or _waits(name) or not usable():
        return
    try:
        from spanwell import late

        late.importing(module)
    except Exception as error:
        say(f"the import of {name} is not watched: {type(error).__name__}: {error}")


def _after(name: str) -> None:
    try:
        if name == RUNTIME:
            take_over(sys.modules[name], os.environ, sys.argv)
        elif _waits(name):
            if _state is not None and name != _SPARED:
                _state.imported.append(name)
        elif usable():
            from spanwell import late
            from spanwell.aws_lambda import invocation

            late.imported(name)
            invocation.sdk_came(name)
    except Exception as error:
        say(f"{name} is not instrumented: {type(error).__name__}: {error}")


# --- the runtime client -------------------------------------------------------------------------------------------


def take_over(runtime: "Any", environ: "MutableMapping[str, str]", argv: "list[str]") -> None:
    """Wrap what the runtime client looks the handler up with; where that is not there any more, name our handler."""
    look_up = getattr(runtime, "_get_handler", None)
    code = getattr(getattr(runtime, "run", None), "__code__", None)
    if callable(look_up) and (code is None or "_get_handler" in code.co_names):
        from spanwell.aws_lambda.bootstrap import looking_up

        runtime._get_handler = looking_up(look_up)
    elif not _rename(environ, argv):
        say("nothing is traced: this version of awslambdaric is not known, and the handler's name was not found")


def _rename(environ: "MutableMapping[str, str]", argv: "list[str]") -> bool:
    """Put our handler in the place of the user's, wherever the runtime client will read its name."""
    global handler_name
    name = environ.get("_HANDLER", "") or (argv[1] if len(argv) > 1 and "." in argv[1] else "")
    if not name:
        return False
    handler_name = name
    environ["_HANDLER"] = ENTRY
    if name in argv[1:]:
        argv[argv.index(name, 1)] = ENTRY
    return True
