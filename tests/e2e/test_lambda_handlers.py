"""Handlers of every form, with the layer and without it: what is posted and logged is the same, byte by byte."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from support.lambda_runtime import Runtime, trace_header

pytestmark = pytest.mark.slow

FORMS: dict[str, tuple[dict[str, str], str]] = {
    "values": ({"app.py": "def handler(e, c): return {'ok': [1, 2.5, None, 'ü', e]}"}, "app.handler"),
    "bytes": ({"app.py": "def handler(e, c): return b'abc'"}, "app.handler"),
    "not for JSON": ({"app.py": "def handler(e, c): return object"}, "app.handler"),
    "slashes": ({"pkg/sub/mod.py": "def fn(e, c): return __name__"}, "pkg/sub/mod.fn"),
    "dots": ({"pkg/__init__.py": "", "pkg/mod.py": "def fn(e, c): return __name__"}, "pkg.mod.fn"),
    "a package": ({"pkg/__init__.py": "def fn(e, c): return __name__"}, "pkg.fn"),
    "an instance": (
        {"app.py": "class H:\n    def __call__(self, e, c): return type(self).__name__\nhandler = H()"},
        "app.handler",
    ),
    "a method": ({"app.py": "class H:\n    def go(self, e, c): return 'gone'\nhandler = H().go"}, "app.handler"),
    "a partial": (
        {"app.py": "import functools\ndef f(x, e, c): return x\nhandler = functools.partial(f, 3)"},
        "app.handler",
    ),
    "a generator": ({"app.py": "def handler(e, c):\n    yield 1"}, "app.handler"),
    "a coroutine function": ({"app.py": "async def handler(e, c): return 1"}, "app.handler"),
    "its own event loop": (
        {"app.py": "import asyncio\nasync def work(): return 7\ndef handler(e, c): return asyncio.run(work())"},
        "app.handler",
    ),
    "an error": (
        {
            "app.py": "class E(Exception): pass\n"
            "def inner(): raise E('bad')\n"
            "def handler(e, c):\n    try:\n        {}['x']\n    except KeyError:\n        inner()"
        },
        "app.handler",
    ),
    "an error in a group": (
        {"app.py": "def handler(e, c):\n    raise RuntimeError('x') from ValueError('cause')"},
        "app.handler",
    ),
    "its own printed traceback": (
        {
            "app.py": "import traceback\n"
            "def handler(e, c):\n    try:\n        1 / 0\n"
            "    except ZeroDivisionError:\n        traceback.print_exc()\n    return 1"
        },
        "app.handler",
    ),
    "nothing that can be called": ({"app.py": "handler = 5"}, "app.handler"),
    "a module that is not there": ({"app.py": ""}, "nope.handler"),
    "an import that is not there": ({"app.py": "import nope"}, "app.handler"),
    "an error at its import": ({"app.py": "def f(): raise ValueError('x')\nf()"}, "app.handler"),
    "a syntax error": ({"app.py": "def f(:\n"}, "app.handler"),
    "no such name": ({"app.py": ""}, "app.handler"),
    "no dot": ({"app.py": ""}, "app"),
    "a built-in module": ({"app.py": ""}, "sys.exit"),
    "an exit at its import": ({"app.py": "import sys\nsys.exit(3)"}, "app.handler"),
    "an exit": ({"app.py": "import sys\ndef handler(e, c): sys.exit(4)"}, "app.handler"),
    "an end without a word": ({"app.py": "import os\ndef handler(e, c): os._exit(5)"}, "app.handler"),
    "logging": (
        {"app.py": "import logging\ndef handler(e, c):\n    logging.warning('w')\n    print('p')\n    return 1"},
        "app.handler",
    ),
    "its own look at itself": (
        {
            "app.py": "import os\ndef handler(e, c):\n"
            "    return [handler.__name__, os.environ['_HANDLER'], c.function_name,"
            " sorted(n for n in os.environ if n.startswith(('SPANWELL', 'PYTHON', '_', 'AWS_X')))]"
        },
        "app.handler",
    ),
}


def outcome(
    task: Path | dict[str, str], handler: str, layer: str | None, *, sampled: bool, event: object = None
) -> list[Any]:
    """Everything that others see of one start and one invocation, without what is new at each."""
    # Given in both cases, since handlers can look at their environment.
    env = {"OTEL_TRACES_EXPORTER": "xray_otlp_udp", "PYTHONHASHSEED": "0"}
    trace = re.sub(
        r"-\w{8}-\w{24};Parent=\w+",
        "-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
        trace_header(sampled=sampled),
    )
    with Runtime(task, handler=handler, layer=layer, env=env) as lam:
        found: list[Any] = [lam.init_error]
        if lam.alive:
            answer = lam.invoke({"x": 1} if event is None else event, trace=trace, request_id="request-1")
            found += [answer.body, answer.error, answer.xray_cause, answer.content_type, answer.exit_code]
        found += [lam.stdout, lam.stderr]
        folder = str(lam.folder)
    cleaned = [repr(each).replace(folder, "FOLDER") for each in found]
    return [re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?|0x[0-9a-f]{6,}", "?", each) for each in cleaned]


@pytest.mark.parametrize("sampled", [False, True], ids=["unsampled", "sampled"])
@pytest.mark.parametrize("form", FORMS)
def test_a_handler_is_answered_for_as_without_the_layer(form: str, sampled: bool) -> None:
    task, handler = FORMS[form]
    without = outcome(task, handler, None, sampled=sampled)
    assert outcome(task, handler, "source", sampled=sampled) == without


def test_a_wrong_signature_is_named_in_the_same_words() -> None:
    """The runtime client reports its own frames then, for want of others, and with them one of ours."""
    seen = []
    for layer in (None, "source"):
        with Runtime({"app.py": "def handler(e): return 1"}, layer=layer) as lam:
            error = lam.invoke({}, trace=trace_header(sampled=False)).error
        assert error is not None
        seen.append((error["errorType"], error["errorMessage"], error["stackTrace"][0][-60:]))
    assert seen[0] == seen[1]


HTTP = {
    "version": "2.0",
    "routeKey": "GET /hello",
    "rawPath": "/hello",
    "rawQueryString": "",
    "headers": {"host": "example.com", "accept": "*/*"},
    "requestContext": {
        "accountId": "123456789012",
        "apiId": "api",
        "domainName": "example.com",
        "http": {"method": "GET", "path": "/hello", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
        "requestId": "id",
        "routeKey": "GET /hello",
        "stage": "$default",
        "time": "12/Mar/2020:19:03:58 +0000",
        "timeEpoch": 1583348638390,
    },
    "isBase64Encoded": False,
}
OLD_HTTP = {
    "resource": "/hello",
    "path": "/hello",
    "httpMethod": "GET",
    "headers": {"Host": "example.com", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"},
    "multiValueHeaders": {},
    "queryStringParameters": None,
    "requestContext": {"requestId": "id", "stage": "prod", "path": "/hello", "httpMethod": "GET", "identity": {}},
    "body": None,
    "isBase64Encoded": False,
}
FRAMEWORKS: dict[str, tuple[tuple[str, ...], object, str]] = {
    "mangum": (
        ("mangum", "starlette", "anyio", "idna", "sniffio", "typing_extensions.py", "exceptiongroup"),
        HTTP,
        """
from mangum import Mangum
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def hello(request):
    return JSONResponse({"path": request.url.path})

handler = Mangum(Starlette(routes=[Route("/hello", hello)]), lifespan="off")
""",
    ),
    "flask": (
        ("awsgi", "flask", "werkzeug", "jinja2", "click", "itsdangerous", "blinker", "markupsafe"),
        OLD_HTTP,
        """
import awsgi
from flask import Flask

app = Flask(__name__)

@app.route("/hello")
def hello():
    return {"hello": "flask"}

def handler(event, context):
    return awsgi.response(app, event, context)
""",
    ),
    "powertools": (
        ("aws_lambda_powertools", "jmespath", "typing_extensions.py"),
        HTTP,
        """
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="shop", timestamp="", location="")
metrics = Metrics(namespace="Shop", service="shop")
app = APIGatewayHttpResolver()

@app.get("/hello")
def hello():
    logger.warning("hello")
    return {"hello": "powertools"}

@logger.inject_lambda_context(log_event=False)
@metrics.log_metrics(capture_cold_start_metric=False, raise_on_empty_metrics=False)
def handler(event, context):
    return app.resolve(event, context)
""",
    ),
}


@pytest.mark.parametrize("sampled", [False, True], ids=["unsampled", "sampled"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_frameworks_answer_as_without_the_layer(name: str, sampled: bool, tmp_path: Path) -> None:
    packages, event, code = FRAMEWORKS[name]
    site = Path(sysconfig.get_paths()["purelib"])
    for package in packages:
        if (site / package).exists():
            (tmp_path / package).symlink_to(site / package)
    (tmp_path / "app.py").write_text(code)
    without = outcome(tmp_path, "app.handler", None, sampled=sampled, event=event)
    assert "hello" in without[1], without
    # Log records carry the ids of their trace, which is what is wanted of a traced invocation.
    trace_fields = (
        r',?\s*\\*"(?:otelTraceID|otelSpanID|otelTraceSampled|otelServiceName|trace_id|span_id)\\*": ?[^,}]+'
    )
    with_layer = outcome(tmp_path, "app.handler", "source", sampled=sampled, event=event)
    assert [re.sub(trace_fields, "", each) for each in with_layer] == without
