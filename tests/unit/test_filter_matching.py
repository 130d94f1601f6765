"""What a filter means on a trace: status, times, nodes, edges, annotations, root causes, free text."""

from __future__ import annotations

import pytest

from spanwell.explore.filters import matches, parse
from spanwell.explore.model import Trace
from support.shop_trace import shop, told


@pytest.mark.parametrize(
    "text",
    [
        "ok", "!fault", "ok = true", "fault = false", "fault != true", "!error", "!throttle", "!partial", "root",
        "inferred",
        # Times are seconds: the answer's, and the whole trace's.
        "responsetime = 1", "responsetime < 1.1", "duration = 5", "duration > 4.9 AND duration <= 5",
        "http.status = 200", "http.status >= 200 AND http.status < 300", "http.status", "http.status != 500",
        'http.url = "https://shop.example:8443/v2/orders/12"', 'http.url CONTAINS "/v2/"', "http.url",
        'http.method = "POST"', 'http.useragent BEGINSWITH "curl"', 'http.clientip ENDSWITH ".9"',
        'user = "alice"', 'user CONTAINS ""', 'user != "bob"', 'availabilityzone = "eu-west-1a"',
        'instance.id = "i-012"', 'resource.arn CONTAINS ":task/"', 'name = "orders"', 'name = "pay.example"',
        'type = "AWS::EC2::Instance"', 'message CONTAINS "money"',
        # Nodes
        'service("orders")', "service() { fault }", 'service("orders") { fault AND responsetime > 0.7 }',
        'service("orders") { !root !inferred duration = 0.8 }', 'service("web") { root = true }',
        '!service("orders") { ok }', 'service("pay.example") { inferred AND fault }', '!service("billing")',
        'service("DynamoDB") { throttle AND error }', 'service("orders-t")', '!service("DynamoDB") { fault }',
        'service(id(name: "DynamoDB", type: "AWS::DynamoDB"))', 'service(id(type: "AWS::DynamoDB::Table"))',
        'service(id(name: "orders", type: "AWS::EC2::Instance"))', '!service(id(name: "web", type: "remote"))',
        'service("mailer") { error !throttle }', 'service("orders") { annotation.tier = gold }',
        '!service("web") { annotation.tier }', 'service("orders") { user = "alice" }',
        'service("orders") { declined }', '!service("web") { declined }',
        # Edges
        'edge("web", "orders")', 'edge("web", "orders") { fault }', '!edge("orders", "web")',
        'edge("orders", "pay.example") { fault }', 'edge("", "DynamoDB") { throttle }', 'edge("orders", "")',
        'edge("orders", "mailer") { error }', '!edge("web", "mailer")',
        'edge("web", "orders") { responsetime = 0.9 }',
        # Annotations
        "annotation.order_id", "annotation.order_id = 12", "annotation[order.id] > 11", "annotation.order.id != 13",
        'annotation.order_id != "12"', "!annotation.vip", "annotation.vip = false", "!annotation.nothing",
        'annotation.tags = "big"', 'annotation.tier = "gold"', "annotation.tier BEGINSWITH go",
        'annotation[otel.resource.host.id] = "i-012"',
        # Root causes
        "rootcause.fault.service", 'rootcause.fault.service { name = "orders" }',
        "rootcause.fault.service { last inferred }",
        'rootcause.fault.service { first AND name = "web" }',
        'rootcause.fault.entity { last AND name = "pay.example" }',
        "rootcause.fault.entity { index = 2 AND remote }", "!rootcause.fault.entity { index > 2 }",
        'rootcause.fault.exception { name = "Declined" AND message CONTAINS "money" }',
        'rootcause.error.service { name = "mailer" }', 'rootcause.error.service { type = "AWS::DynamoDB" }',
        "rootcause.responsetime.entity { coverage > 0.7 AND !first }", "rootcause.responsetime.service { last }",
        "rootcause.responsetime.entity { last AND coverage = 0.5 }",
        'rootcause.fault.json = #[{"Services": [{"Name": "web"}, {"Name": "orders"}, {"Name": "pay.example"}]}]',
        '!rootcause.json = #[{"Services": [{"Name": "web"}]}]',
        'rootcause.fault.json = #[{"Services": [{"Name": "web", "EntityPath": [{"Name": "web"}]}, '
        '{"Name": "orders", "EntityPath": [{"Name": "place"}, {"Name": "pay.example"}]}, {"Name": "pay.example"}]}]'
        ' OR ok',
        # Free text
        "declined", '"shop.errors.DECLINED"', "POST /v2/orders", '"no \\"money\\""', "!unheard",
        "mailer", "12", "false",
        "ok !unheard (unheard OR gold)",
    ],
)  # fmt: skip
def test_what_holds(text: str) -> None:
    assert matches(shop(), parse(text)) is True
    assert matches(shop(), parse(f"!({text})")) is False


def test_a_trace_without_its_root() -> None:
    trace = Trace("1", [told("2", "1"), told("3", "2", "orders")])
    for text in (
        "partial",
        "!root",
        'service("web") { partial }',
        '!service("orders") { partial }',
        "responsetime = 1",
    ):
        assert matches(trace, parse(text)), text


def test_a_trace_without_spans_matches_nothing() -> None:
    assert not matches(Trace("1", []), parse("!ok"))


def test_a_deep_and_a_wide_trace() -> None:
    deep = Trace("1", [told(str(n), str(n - 1) if n else None, status="error") for n in range(20_000)])
    assert matches(deep, parse("rootcause.fault.entity { index = 19999 AND last }"))
    wide = Trace("1", [told("0"), *(told(str(n), "0", f"s{n}", status="error") for n in range(1, 20_000))])
    assert matches(wide, parse('edge("web", "s7") { fault } AND rootcause.fault.service { name = "s8" }'))
