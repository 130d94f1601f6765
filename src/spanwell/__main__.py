"""The `spanwell` command. `run` and `lambda` go first and import os and sys alone: their start is every start.

Both put `_boot/` first in PYTHONPATH and exec the command; in the application's interpreter
`_boot/sitecustomize.py` goes on. No `from __future__` here nor in the modules that it loads: that is one more file.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

USAGE = "usage: spanwell {} [--] COMMAND [ARGUMENT ...]"
_HELP = {
    "run": "Runs the command with tracing; see `spanwell doctor` for what that means.",
    "lambda": "Runs a Lambda runtime with tracing, as the ENTRYPOINT of a container image; see docs/lambda.md.",
}


def main() -> int:
    """Run the command line of this process and return its exit status."""
    if len(sys.argv) > 1 and sys.argv[1] in _HELP:
        launch(sys.argv[2:], sys.argv[1])
    from spanwell.cli import main as cli

    return cli(sys.argv[1:])


def boot_folder() -> str:
    """The folder that holds our sitecustomize."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "_boot")


def python_path(current: str | None, boot: str) -> str:
    """PYTHONPATH with `boot` first, once, and everything else as it was."""
    rest = current.split(os.pathsep) if current else []
    return os.pathsep.join([boot, *(entry for entry in rest if entry != boot)])


def launch(arguments: "Sequence[str]", how: str = "run") -> "NoReturn":
    """Replace this process by the command, traced; `how`: ``run`` or ``lambda``. Exits 2 without a command, 127 where
    it does not exist."""
    command = list(arguments)
    if command[:1] == ["--"]:
        del command[0]
    if not command or command[0] in ("-h", "--help"):
        sys.stderr.write(f"{USAGE.format(how)}\n{_HELP[how]}\n")
        sys.exit(0 if command else 2)
    environ = dict(os.environ)
    environ["PYTHONPATH"] = python_path(environ.get("PYTHONPATH"), boot_folder())
    if how == "run" and _wants_sqlite(environ):
        environ["OTEL_TRACES_EXPORTER"] = "sqlite"
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, environ)
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        sys.stderr.write(f"spanwell: cannot run {command[0]!r}: {error.strerror}\n")
        sys.exit(127 if missing else 126)


def _wants_sqlite(environ: dict[str, str]) -> bool:
    """A developer at a terminal who configured nothing wants to look at the traces here and now."""
    if environ.get("OTEL_TRACES_EXPORTER") or environ.get("OTEL_CONFIG_FILE"):
        return False
    if any(name.startswith("OTEL_EXPORTER_OTLP_") and value for name, value in environ.items()):
        return False
    if not (os.isatty(0) or os.isatty(2)):
        return False
    from spanwell.where import is_deployed

    return not is_deployed(environ)


if __name__ == "__main__":
    sys.exit(main())
