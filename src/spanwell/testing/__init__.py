"""For your own tests: an X-Ray sampling service on loopback that can also be ill, and a clock that you move.

    def test_my_rules():
        with FakeSamplingService([{"RuleName": "orders", "URLPath": "/orders/*", "FixedRate": 1.0}]) as service:
            start_my_application(OTEL_TRACES_SAMPLER="xray", OTEL_TRACES_SAMPLER_ARG=f"endpoint={service.endpoint}")
            ...
            assert service.until(lambda: service.total("orders").requests == 7)
            assert service.violations == []

Standard library only; imports nothing of spanwell and nothing of OpenTelemetry.
"""

from spanwell.testing.clock import FakeClock
from spanwell.testing.sampling import FakeSamplingService, Request, Totals
from spanwell.testing.wire import RULES, TARGETS

__all__ = ["RULES", "TARGETS", "FakeClock", "FakeSamplingService", "Request", "Totals"]
