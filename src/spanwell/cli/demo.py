"""`spanwell demo`: a shop of real processes on this machine, traced, with moto in the place of AWS.

The shop (examples/shop) has no tracing code: each process runs under `spanwell run`. The command succeeds only
if one whole trace reached the store: front end, orders service and worker, AWS calls named.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from spanwell.cli.demo_result import ORDERS, WEB, WORKER, Result, describe, show
from spanwell.cli.processes import Children, ProcessError, isolated, signals_as_exit
from spanwell.cli.terminal import progress_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from typing import Any, TextIO

    from spanwell.cli.processes import Child

TABLE = QUEUE = "orders"
READY_TIMEOUT = 30.0
WORK_TIMEOUT = 20.0

# Some are slow (piano), some refused (unicorn, a quantity of 0), one breaks the orders service (ice cream), one
# the bank declines (two pianos). The first goes well.
ARTICLES = (
    ("tea", 2),
    ("coffee", 1),
    ("piano", 1),
    ("unicorn", 1),
    ("cake", 3),
    ("piano", 2),
    ("ice cream", 1),
    ("tea", 1),
    ("coffee", 0),
    ("cake", 1),
)

# Port 0: the server picks a free port and says which. Once ready, moto is a separate process like all others.
_AWS = """
import threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("listening on http://%s:%d" % server.get_host_and_port(), flush=True)
threading.Event().wait()
"""

_NEEDED = {
    "boto3": "boto3",
    "flask": "flask",
    "flask_cors": "moto[server]",
    "moto": "moto[server]",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "requests": "requests",
    "opentelemetry.instrumentation.flask": "opentelemetry-instrumentation-flask",
    "opentelemetry.instrumentation.fastapi": "opentelemetry-instrumentation-fastapi",
}


def register(subparsers: Any) -> None:
    """Add `demo` to the command line."""
    parser = subparsers.add_parser(
        "demo", help="run a small shop on this machine and show its traces", description=__doc__
    )
    parser.add_argument(
        "--requests", type=_count, default=20, metavar="N", help="orders to send (default 20, at most 10000)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the processes' logs beside the traces")
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= 10_000:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10000")
    return int(text)


def run(args: Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Run the demo; 0 if one whole trace is in the store, else 1 (130 after Ctrl-C)."""
    missing = sorted({package for module, package in _NEEDED.items() if not _installed(module)})
    if missing:
        sys.stderr.write(f"spanwell demo needs {', '.join(missing)}: pip install 'spanwell[demo]'\n")
        return 1
    try:
        folder = Path(tempfile.mkdtemp(prefix="spanwell-demo-"))
    except OSError as error:
        sys.stderr.write(f"spanwell demo needs a folder for temporary files: {error}\n")
        return 1
    children = Children(folder)
    try:
        result = _perform(args, children, folder, environ, out)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.write("\nspanwell demo: interrupted, everything is stopped\n")
        return 130
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if args.json:
        out.write(json.dumps(describe(result), indent=2) + "\n")
    if result.problem:
        _complain(result.problem, children.all, folder)
        return 1
    if not args.keep:
        for log in folder.glob("*.log"):
            log.unlink()
    if not args.json:
        show(result, environ, out)
    return 0


def _perform(args: Namespace, children: Children, folder: Path, environ: Mapping[str, str], out: TextIO) -> Result:
    """Run everything from start to stop and look at what is in the store."""
    result = Result(folder / "traces.db")
    stage = _Stage(out, quiet=args.json)
    started = time.monotonic()
    try:
        with signals_as_exit(), children:
            result.orders = _play(children, folder, args.requests, environ, stage)
            stage.say("stopping everything")
        result.look()
    except Exception as error:  # whatever it is, the logs' ends tell more than a traceback
        result.problem = str(error) if isinstance(error, ProcessError) else f"{type(error).__name__}: {error}"
    result.seconds = time.monotonic() - started
    return result


def _installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def shop_folder() -> Path:
    """Where the shop's code is: inside the installed package, or in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_shop", package.parents[1] / "examples" / "shop"):
        if (folder / "web.py").is_file():
            return folder
    raise ProcessError("the shop's code is missing from this installation")


def _play(children: Children, folder: Path, number: int, environ: Mapping[str, str], stage: _Stage) -> dict[str, int]:
    """Start the processes, send the orders, wait until the worker is through; how the orders ended."""
    shop = shop_folder()
    env = isolated(environ)
    stage.say("starting moto in the place of AWS")
    aws = children.start("aws", [sys.executable, "-c", _AWS], env)
    import boto3

    endpoint = aws.line("listening on ", READY_TIMEOUT)
    session = boto3.Session(aws_access_key_id="demo", aws_secret_access_key="demo", region_name="eu-west-1")
    dynamodb = session.client("dynamodb", endpoint_url=endpoint, config=_direct())
    queue_url = _make_resources(dynamodb, session.client("sqs", endpoint_url=endpoint, config=_direct()))
    env.update(
        AWS_ENDPOINT_URL=endpoint,
        SHOP_TABLE=TABLE,
        SHOP_QUEUE_URL=queue_url,
        OTEL_TRACES_EXPORTER="sqlite",
        SPANWELL_SQLITE_PATH=str(folder / "traces.db"),
        OTEL_BSP_SCHEDULE_DELAY="1000",
    )
    stage.say("starting the shop: shop-web (Flask), shop-orders (FastAPI), shop-worker")
    orders = _serve(children, ORDERS, shop / "orders.py", env)
    worker = _serve(children, WORKER, shop / "worker.py", env)
    env["SHOP_ORDERS_URL"] = orders.line("listening on ", READY_TIMEOUT)
    web = _serve(children, WEB, shop / "web.py", env)
    worker.line("polling", READY_TIMEOUT)
    outcomes = _send(web.line("listening on ", READY_TIMEOUT), number, children, stage)
    stage.say("waiting for the worker")
    _wait_for_worker(dynamodb, children)
    return outcomes


def _direct() -> Any:
    from botocore.config import Config

    # Not through a proxy that the environment names: the server is on this machine.
    return Config(proxies={})


def _serve(children: Children, service: str, script: Path, environ: Mapping[str, str]) -> Child:
    command = [sys.executable, "-m", "spanwell", "run", "--", sys.executable, str(script)]
    return children.start(service, command, {**environ, "OTEL_SERVICE_NAME": service})


def _make_resources(dynamodb: Any, sqs: Any) -> str:
    dynamodb.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    return str(sqs.create_queue(QueueName=QUEUE)["QueueUrl"])


def _send(url: str, number: int, children: Children, stage: _Stage) -> dict[str, int]:
    """Send `number` orders, one after the other; how many were accepted, refused and failed."""
    from urllib.request import ProxyHandler, build_opener

    opener = build_opener(ProxyHandler({}))
    outcomes = {"accepted": 0, "refused": 0, "failed": 0}
    with opener.open(f"{url}/", timeout=10) as page:
        page.read()
    for index in range(number):
        article, quantity = ARTICLES[index % len(ARTICLES)]
        status = _order(opener, url, article, quantity)
        outcomes["accepted" if status < 400 else "refused" if status < 500 else "failed"] += 1
        stage.progress("sending orders", index + 1, number)
        children.check()
    stage.say("sent {} orders: {accepted} accepted, {refused} refused, {failed} failed".format(number, **outcomes))
    return outcomes


def _order(opener: Any, url: str, article: str, quantity: int) -> int:
    from urllib.error import HTTPError
    from urllib.request import Request

    body = json.dumps({"article": article, "quantity": quantity}).encode()
    request = Request(f"{url}/orders", body, {"Content-Type": "application/json"})
    try:
        with opener.open(request, timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def _wait_for_worker(dynamodb: Any, children: Children) -> None:
    end = time.monotonic() + WORK_TIMEOUT
    while True:
        pages = dynamodb.get_paginator("scan").paginate(TableName=TABLE)
        left = sum(item["state"]["S"] == "new" for page in pages for item in page["Items"])
        if not left:
            return
        children.check()
        if time.monotonic() > end:
            raise ProcessError(f"the worker had {left} orders left after {WORK_TIMEOUT:g} s")
        time.sleep(0.1)


def _complain(problem: str, children: list[Child], folder: Path) -> None:
    for child in children:
        sys.stderr.write(f"--- {child.name}, end of its log:\n{child.tail()}\n")
    sys.stderr.write(f"spanwell demo failed: {problem} (traces and logs: {folder})\n")


class _Stage:
    """Says what is going on: plain lines, and a bar on a terminal."""

    def __init__(self, out: TextIO, *, quiet: bool) -> None:
        self._out = out
        self._quiet = quiet
        self._bar = not quiet and out.isatty()

    def say(self, text: str) -> None:
        if not self._quiet:
            self._out.write(f"{text}\n")
            self._out.flush()

    def progress(self, text: str, done: int, total: int) -> None:
        if not self._bar:
            return
        self._out.write(progress_line(text, done, total))
        self._out.flush()
