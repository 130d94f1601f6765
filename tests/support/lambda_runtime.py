"""A Lambda execution environment on this machine: the real runtime client, folders as in Lambda, nothing of Docker.

    with Runtime({"app.py": CODE}, layer="source", env={"OTEL_TRACES_EXPORTER": "xray"}) as lam:
        answer = lam.invoke({"key": 1}, trace="Root=1-...;Parent=...;Sampled=1", timeout=3.0)
        assert answer.payload == {"ok": True}
        assert all(span.received_ns < answer.posted_ns for span in lam.spans())

The process starts when the block does, and again at the first event after it ended. Between events it is frozen
(SIGSTOP) with `freeze=True`; an event that is not answered in time kills it (SIGKILL), as Lambda does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import lambda_folders
from support.daemon import Daemon
from support.lambda_api import Answer, Call, RuntimeApi, make_call
from support.lambda_aws import AwsStub

FUNCTION = "spanwell-test"
ARN = f"arn:aws:lambda:eu-west-1:123456789012:function:{FUNCTION}"
_INIT_TIMEOUT = 60.0  # seconds; Lambda's ten, and room for a loaded machine

# Says that it is there and waits for a line: what happens before that is not the start of the function.
_GATE = ': > "$GATE"; {}unset GATE OPT_FOLDER; read -r _; exec "$@" </dev/null'
_GATE_WITH_OPT = 'mount --bind "$OPT_FOLDER" /opt; ' + _GATE
_READ_ONLY_TMP = "mount --bind /tmp /tmp; mount -o remount,bind,ro /tmp; "


def trace_header(*, sampled: bool = True, parent: bool = True) -> str:
    """A fresh X-Amzn-Trace-Id value, as Lambda sends it with active tracing; PassThrough sends no decision."""
    root = f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()}"
    return f"{root};Parent={os.urandom(8).hex()};Sampled={int(sampled)}" if parent else root


def trace_id(header: str) -> str:
    """The trace id of such a header, as spans have it."""
    return header.partition("Root=1-")[2].partition(";")[0].replace("-", "")


class Runtime:
    """One function.

    `task`: a folder, or file name -> text. `layer`: None, "source", or a folder like an unpacked zip; several are
    laid over each other in their order. `python`: a version ("3.12") or the Python of an environment with
    awslambdaric. `env`: variables on top of what Lambda sets; a value of None takes one away. `opt`: the layer stands
    at /opt itself, in a mount namespace (root only; for layers whose scripts name that path). `read_only_tmp` needs
    `opt`. `xray`: an address instead of the daemon's. `otlp`: start an OTLP receiver and name it as the endpoint.
    """

    def __init__(
        self,
        task: Path | Mapping[str, str],
        *,
        handler: str = "app.handler",
        layer: str | Path | list[str | Path] | None = None,
        python: str | None = None,
        env: Mapping[str, str | None] | None = None,
        opt: bool = False,
        read_only_tmp: bool = False,
        freeze: bool = False,
        snap_start: bool = False,
        memory: int = 512,
        xray: str | None = None,
        otlp: bool = False,
        aws: bool = False,
    ) -> None:
        self.facts = lambda_folders.describe(lambda_folders.interpreter(python))
        self.folder = Path(tempfile.mkdtemp(prefix="spanwell-lambda-"))
        self.freezing = freeze
        self.starts = 0
        self._task, self._layers = task, [] if layer is None else layer if isinstance(layer, list) else [layer]
        self._opt, self._read_only_tmp = opt or read_only_tmp, read_only_tmp
        self._snap_start = snap_start
        self.env: dict[str, str | None] = {
            "_HANDLER": handler,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
            **(env or {}),
        }
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.daemon = Daemon()
        self._stack.callback(self.daemon.close)
        self._xray = xray or self.daemon.address
        self.aws = AwsStub() if aws else None
        if self.aws:
            self._stack.callback(self.aws.close)
        self.receiver = self._make_receiver() if otlp else None
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self._kept: dict[str, str] = {}
        self._make_folders()

    def _make_receiver(self) -> Any:
        from support.receiver import otlp_receiver

        return self._stack.enter_context(otlp_receiver())

    def _make_folders(self) -> None:
        var, opt = self.folder / "var", self.folder / "opt"
        program = lambda_folders.make_language(var / "lang", self.facts)
        lambda_folders.make_runtime(var / "runtime", self.facts, program, Path("/opt") if self._opt else opt)
        if isinstance(self._task, Path):
            (var / "task").symlink_to(self._task.resolve())
        else:
            for name, text in self._task.items():
                file = var / "task" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        layers = [lambda_folders.source_layer(self.facts) if each == "source" else each for each in self._layers]
        if len(layers) == 1:
            opt.symlink_to(Path(layers[0]).resolve())
        else:
            opt.mkdir()
        for layer in layers if len(layers) > 1 else ():
            shutil.copytree(layer, opt, symlinks=True, dirs_exist_ok=True)

    # --- the life of the process -------------------------------------------------------------------------------

    def __enter__(self) -> Runtime:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._kept = {name: self._output(name) for name in ("stdout", "stderr")}
        self._stack.close()

    def start(self) -> None:
        """Start the process and wait until it asks for work, reports an init error, or ends."""
        self.stop()
        self.api = RuntimeApi()
        self._stack.callback(self.api.close)
        self.starts += 1
        gate = (_GATE_WITH_OPT if self._opt else _GATE).format(_READ_ONLY_TMP if self._read_only_tmp else "")
        command = ["/bin/sh", "-c", gate, "sh", str(self.folder / "var" / "runtime" / "bootstrap")]
        with (self.folder / "stdout").open("ab") as out, (self.folder / "stderr").open("ab") as err:
            self._process = subprocess.Popen(
                ["unshare", "-m", *command] if self._opt else command,
                env=self.environment(),
                cwd=self.folder / "var" / "task",
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        while not (self.folder / "gate").exists() and self.alive:
            time.sleep(0.001)
        (self.folder / "gate").unlink(missing_ok=True)
        self.began_ns = time.time_ns()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
            self._process.stdin.close()
        api = self.api
        self._wait(lambda: bool(api.first_next_ns or api.restore_wanted_ns or api.init_error), _INIT_TIMEOUT)
        if api.init_error:
            self._wait(lambda: False, 10)
        self._rest()

    def stop(self) -> None:
        """End the process for good; Lambda gives no notice either."""
        if self._process is not None:
            self.kill()
            self._process = None

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal to the process and all it started, wait for its end; returns its exit code."""
        assert self._process is not None
        self.thaw()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        code = self._process.wait(60)
        self.api.close()
        return code

    def freeze(self) -> None:
        """No thread of the function runs until `thaw`."""
        if self.alive and not self._frozen:
            os.killpg(self.pid, signal.SIGSTOP)
            self._frozen = True

    def thaw(self) -> None:
        """Let a frozen process run again."""
        if self._frozen:
            self._frozen = False
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT)

    def restore(self) -> None:
        """SnapStart: resume the snapshot, and wait until the process asks for work, or ends."""
        self.restored_ns = time.time_ns()
        self.thaw()
        self.api.restore()
        self._wait(lambda: self.api.first_next_ns > 0, _INIT_TIMEOUT)
        self._rest()

    def _rest(self) -> None:
        if self.freezing:
            self.freeze()

    @property
    def pid(self) -> int:
        """Of the process, which the wrapper script and Python share."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    # --- events ------------------------------------------------------------------------------------------------

    def invoke(self, event: Any = None, *, timeout: float = 3.0, trace: str | None = "", **options: Any) -> Answer:
        """Hand an event over and wait for the answer and the request for the next event; never raises for an error.

        `timeout` in seconds is the function's. `trace`: the header's value, "" for a fresh sampled one, None for
        none. `options`: body (bytes in place of `event`), client, cognito, tenant, request_id, arn.
        """
        return self.finish(self.begin(event, timeout=timeout, trace=trace, **options))

    def begin(self, event: Any = None, *, timeout: float = 3.0, trace: str | None = "", **options: Any) -> Call:
        """The first half of `invoke`, for what happens meanwhile, and for several at once."""
        import json

        if not self.alive:
            self.start()
        if self.api.restore_wanted_ns and not self.api.first_next_ns:
            self.restore()
        body = options.pop("body", None)
        body = json.dumps(event).encode() if body is None else body
        trace = trace_header() if trace == "" else trace
        call = make_call(body, timeout=timeout, trace=trace, arn=options.pop("arn", ARN), **options)
        self.thaw()
        self.api.begin(call)
        return call

    def finish(self, call: Call) -> Answer:
        """The second half of `invoke`. A call that is not answered in time has its process killed."""
        found = call.answer
        limit = time.monotonic() + call.timeout
        while not call.done.wait(0.02):
            if not self.alive:
                break
            if found.sent_ns and time.monotonic() >= limit:
                found.timed_out = True
                break
        if call.done.is_set():
            self._wait(lambda: found.next_ns > 0 or self.api.waiting > 0, max(5.0, limit - time.monotonic()))
        if found.timed_out:
            found.exit_code = self.kill()
        elif not self.alive:
            assert self._process is not None
            found.exit_code = self._process.returncode
        self._rest()
        return found

    def _wait(self, ready: Any, seconds: float) -> bool:
        limit = time.monotonic() + seconds
        with self.api.changed:
            while not ready():
                if not self.alive or time.monotonic() > limit:
                    return bool(ready())
                self.api.changed.wait(0.02)
        return True

    # --- what can be seen of it --------------------------------------------------------------------------------

    @property
    def init_ms(self) -> float:
        """From the start of the process to its first request for an event."""
        assert self.api.first_next_ns, f"never asked for an event:\n{self.log}"
        return (self.api.first_next_ns - self.began_ns) / 1e6

    @property
    def init_error(self) -> dict[str, Any] | None:
        """What was posted to init/error by the last start."""
        return self.api.init_error

    def rss_mb(self) -> float:
        """Resident memory of the process, in MB of 10^6 bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise AssertionError("no process")

    def cpu_ms(self) -> float:
        """CPU time that the threads alive in the process have used."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6

    @property
    def stdout(self) -> str:
        """All starts' standard output."""
        return self._output("stdout")

    @property
    def stderr(self) -> str:
        """All starts' error output."""
        return self._output("stderr")

    @property
    def log(self) -> str:
        """Both outputs, as the function's log group would show them, not in their order."""
        return self.stdout + self.stderr

    def _output(self, name: str) -> str:
        kept = self._kept.get(name)
        return (self.folder / name).read_text(errors="replace") if kept is None else kept

    def spans(self, number: int = 0, seconds: float = 10.0) -> list[Any]:
        """`support.lambda_spans.Seen` of what arrived at the daemon and the OTLP receiver, in this order.

        Waits until there are `number`, `seconds` at most.
        """
        from support.lambda_spans import from_daemon, from_receiver

        limit = time.monotonic() + seconds
        while True:
            found = from_daemon(self.daemon) + (from_receiver(self.receiver, FUNCTION) if self.receiver else [])
            if len(found) >= number or time.monotonic() > limit:
                return found
            time.sleep(0.02)

    # --- its environment ---------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The variables of the process, as Lambda sets them, with the caller's on top."""
        lang, opt = self.folder / "var" / "lang", Path("/opt") if self._opt else self.folder / "opt"
        host, port = self._xray.rsplit(":", 1)
        start = "snap-start" if self._snap_start else "on-demand"
        values: dict[str, str | None] = {
            "PATH": f"{lang}/bin:/usr/local/bin:/usr/bin:/bin:{opt}/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": str(self.folder / "var" / "task"),
            "LAMBDA_RUNTIME_DIR": str(self.folder / "var" / "runtime"),
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_LAMBDA_INITIALIZATION_TYPE": start,
            "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{FUNCTION}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"2025/11/20/[$LATEST]{self.starts:032x}",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_SESSION_TOKEN": "example",
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "AWS_XRAY_DAEMON_ADDRESS": self._xray,
            "_AWS_XRAY_DAEMON_ADDRESS": host,
            "_AWS_XRAY_DAEMON_PORT": port,
            "GATE": str(self.folder / "gate"),
            "OPT_FOLDER": str(self.folder / "opt") if self._opt else None,
            "AWS_ENDPOINT_URL": self.aws.url if self.aws else None,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": self.receiver.endpoint(FUNCTION) if self.receiver else None,
            **self.env,
        }
        wrapper = values.get("AWS_LAMBDA_EXEC_WRAPPER")
        if wrapper:
            values["AWS_LAMBDA_EXEC_WRAPPER"] = wrapper.replace("/opt", str(opt), 1)
        return {name: value for name, value in values.items() if value is not None}
