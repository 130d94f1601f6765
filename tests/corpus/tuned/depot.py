"""A client of a gRPC server that fails in its own ways."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.instrumentation.grpc import client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.trace import SpanKind

from corpus.harness import World, case


class Depot:
    """A gRPC server that fails with `codes` before it answers."""

    def __init__(self, world: World) -> None:
        self.codes: list[grpc.StatusCode] = []
        server = grpc.server(futures.ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("depot.Depot", {"Reserve": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        world.at_end(lambda: server.stop(0).wait())
        plain = grpc.insecure_channel(f"127.0.0.1:{port}")
        world.at_end(plain.close)
        # Its instrumentor hands a provider only to the channels of asyncio.
        channel = intercept_channel(plain, client_interceptor(tracer_provider=world.provider("shipping")))
        self._clock = world.clock
        self._reserve = channel.unary_unary("/depot.Depot/Reserve")

    def _answer(self, request: bytes, context: Any) -> bytes:
        self._clock.advance(ms=7)
        if self.codes:
            context.abort(self.codes.pop(0), "no")
        return b""

    def reserve(self, times: int = 1) -> None:
        """Call up to `times` until it works."""
        for attempt in range(times):
            try:
                self._reserve(b"", timeout=20)
                return
            except grpc.RpcError:
                if attempt == times - 1:
                    raise
                self._clock.sleep(0.1)


def handled(world: World, work: Callable[[], object]) -> None:
    """As an entry of a service that answers whatever happens."""
    span = world.tracer("shipping").start_as_current_span("POST /ship", kind=SpanKind.SERVER)
    with span, contextlib.suppress(grpc.RpcError):
        work()


@case("retried_call", positive=True, half="tuned")
def depot_comes_back(world: World) -> Iterator[None]:
    depot = Depot(world)
    for codes in (["UNAVAILABLE"], ["UNAVAILABLE"] * 3, ["INTERNAL", "ABORTED"]):
        depot.codes = [grpc.StatusCode[code] for code in codes]
        handled(world, lambda: depot.reserve(5))
        yield


@case("retried_call", positive=False, half="tuned")
@case("throttled_dependency", positive=False, half="tuned")
@case("n_plus_one", positive=False, half="tuned")
def depot_says_no(world: World) -> Iterator[None]:
    depot = Depot(world)
    for code in ("NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED"):
        depot.codes = [grpc.StatusCode[code]]
        handled(world, lambda: depot.reserve(2))
        yield


@case("throttled_dependency", positive=True, half="tuned")
@case("suppressed_error", positive=True, half="tuned")
@case("trace_errors", positive=True, half="tuned")
def depot_has_had_enough(world: World) -> Iterator[None]:
    depot = Depot(world)
    for calls in (1, 2):
        depot.codes = [grpc.StatusCode.RESOURCE_EXHAUSTED] * calls
        handled(world, lambda calls=calls: depot.reserve(calls))  # type: ignore[misc]
        yield


@case("n_plus_one", positive=True, half="tuned")
def parcel_by_parcel(world: World) -> Iterator[None]:
    depot = Depot(world)
    for count in (10, 18):
        handled(world, lambda count=count: [depot.reserve() for _ in range(count)])  # type: ignore[misc]
        yield
