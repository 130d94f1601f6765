"""Child processes that never outlive the block they were started in, with their output in log files."""

from __future__ import annotations

import os
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType


class ProcessError(Exception):
    """A child ended or did not get ready; the text says which, and what to look at is in its log."""


class Child:
    """One running process. Everything it prints goes to `log`."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command,
                env=dict(environ),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
            )

    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 15) -> str:
        """The last lines of what it printed."""
        return "\n".join(self.output().splitlines()[-lines:])

    def line(self, prefix: str, timeout: float) -> str:
        """Wait until it prints a line that starts with `prefix` and return the rest of that line."""
        end = time.monotonic() + timeout
        while True:
            status = self.process.poll()
            for line in self.output().splitlines(keepends=True):
                if line.startswith(prefix) and line.endswith("\n"):
                    return line[len(prefix) :].strip()
            if status is not None:
                raise ProcessError(f"{self.name} ended with status {status} at its start")
            if time.monotonic() > end:
                raise ProcessError(f"{self.name} was not ready after {timeout:g} s")
            time.sleep(0.05)

    def wait_or_kill(self, timeout: float) -> None:
        """Wait `timeout` seconds for its end, then force it."""
        try:
            self.process.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Children:
    """A block of child processes: `with Children(folder) as children`. All are stopped at its end, last first."""

    def __init__(self, folder: Path, patience: float = 5.0) -> None:
        self._folder = folder
        self._patience = patience
        self.all: list[Child] = []

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Child:
        """Start `command`; its log is `<folder>/<name>.log`."""
        with _signals_held():  # one between the start and the list would leave the process running
            child = Child(name, command, environ, self._folder / f"{name}.log")
            self.all.append(child)
        return child

    def check(self) -> None:
        """Raises ProcessError if one has ended."""
        for child in self.all:
            status = child.process.poll()
            if status is not None:
                raise ProcessError(f"{child.name} ended with status {status}")

    def stop(self) -> None:
        """Ask all to end, wait `patience` seconds in all, then kill what is left. May be called again."""
        for child in reversed(self.all):
            if child.process.poll() is None:
                child.process.terminate()
        end = time.monotonic() + self._patience
        for child in self.all:
            child.wait_or_kill(end - time.monotonic())

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except BaseException:
            # A second Ctrl-C: no more patience.
            for child in self.all:
                child.process.kill()
            raise


class signals_as_exit:  # noqa: N801 - a block, as `guard`
    """In the block SIGTERM and SIGHUP raise SystemExit(128 + number), so that `with` and `finally` do their work."""

    def __init__(self) -> None:
        self._before: dict[int, Callable[..., object] | int | None] = {}

    def __enter__(self) -> None:
        import signal
        import threading

        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None:
                self._before[number] = signal.signal(number, _exit)

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self._before.items():
            signal.signal(number, handler)


class _signals_held:  # noqa: N801
    """Signals that would end the block wait until its end. Not by a mask, which the new process would inherit."""

    def __init__(self) -> None:
        self._before: dict[int, Callable[..., object] | int | None] = {}
        self._came: list[int] = []

    def __enter__(self) -> None:
        import signal
        import threading

        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                self._before[number] = signal.signal(number, self._keep)

    def _keep(self, number: int, _frame: object) -> None:
        self._came.append(number)

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self._before.items():
            signal.signal(number, handler)
        for number in self._came[:1]:
            signal.raise_signal(number)


def _exit(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def isolated(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what would send a demo's processes to real accounts, exporters or proxies."""
    prefixes = ("AWS_", "OTEL_", "SPANWELL_", "SHOP_")
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(prefixes) and not name.lower().endswith("_proxy")
    }
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONUNBUFFERED": "1",
    }
