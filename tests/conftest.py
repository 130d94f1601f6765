"""For every test: no connection leaves this machine, and what spanwell remembers in a process starts afresh."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator

import pytest

from spanwell import _guard

for name in [name for name in os.environ if name.startswith(("OTEL_", "SPANWELL_", "AWS_"))]:
    if name != "SPANWELL_STRICT":
        del os.environ[name]
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="eu-west-1",
    AWS_EC2_METADATA_DISABLED="true",
)

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _refuse_others(address: object) -> None:
    host = address[0] if isinstance(address, tuple) and address else None
    if not isinstance(host, str) or host in ("localhost", ""):
        return
    try:
        inside = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise AssertionError(f"a test tried to connect to {host!r}; tests stay on loopback")


def _guarded_connect(self: socket.socket, address: object) -> None:
    _refuse_others(address)
    return _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: object) -> int:
    _refuse_others(address)
    return _connect_ex(self, address)


socket.socket.connect = _guarded_connect  # type: ignore[method-assign]
socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[method-assign]


# Of the tests of Lambda these run everywhere: what starts, the built layer, and what a start costs.
_LAMBDA = ("test_lambda_start.py", "test_lambda_layer_zip.py", "test_lambda_cost.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is proved against servers of others hardly depends on the interpreter: see tests/run.py."""
    for item in items:
        name = item.path.name
        if not item.get_closest_marker("slow"):
            continue
        if "contract" in item.path.parts and "instrumentor" not in name:
            item.add_marker("services")
        elif name.startswith("test_lambda_") and name not in _LAMBDA:
            item.add_marker("functions")


@pytest.fixture(autouse=True)
def _fresh_memory() -> Iterator[None]:
    """Warnings are said again and losses counted from nothing in every test."""
    _guard._warned.clear()
    _guard.losses.reset()
    yield
    _guard._warned.clear()
    _guard.losses.reset()
