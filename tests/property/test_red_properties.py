"""RED metrics: what is remembered of one span never gives another span its labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.insights.red import Red
from support.ended import ended

VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("server.address", "net.peer.name", "service.peer.name"), st.sampled_from(["", "a", "b"])),
    **dict.fromkeys(("peer.service", "aws.remote.service"), st.sampled_from(["p", "AWS::S3"])),
    "aws.remote.resource.identifier": st.sampled_from(["bucket", "table"]),
    **dict.fromkeys(("server.port", "net.peer.port"), st.sampled_from([80, 8080, "80"])),
    **dict.fromkeys(("http.request.method", "http.method"), st.sampled_from(["GET", "POST", ""])),
    **dict.fromkeys(("http.response.status_code", "http.status_code"), st.sampled_from([200, 404, 503, "500"])),
    "error.type": st.sampled_from(["timeout", "500"]),
    "http.route": st.sampled_from(["/a/{id}", "/b", ""]),
    **dict.fromkeys(("url.path", "http.target"), st.sampled_from(["/x/1", "/x/2", "/y"])),
    **dict.fromkeys(("url.full", "http.url"), st.sampled_from(["http://u/1", "http://v:81/2"])),
    "url.template": st.sampled_from(["/t/{id}", "/s"]),
}
SORTS = {
    "rpc.system": ("rpc.service", "rpc.method"),
    "rpc.system.name": ("rpc.method",),
    "db.system.name": ("db.namespace", "db.operation.name"),
    "db.system": ("db.name", "db.operation"),
    "messaging.system": ("messaging.destination.name", "messaging.operation.type"),
}


@st.composite
def attributes(draw: st.DrawFn) -> dict[str, Any]:
    found = draw(st.fixed_dictionaries({}, optional=VALUES))
    for system in draw(st.sets(st.sampled_from(sorted(SORTS)), max_size=1)):
        words = st.sampled_from(["aws-api", "S3", "Get"])
        found |= {
            system: draw(words),
            **draw(st.fixed_dictionaries({}, optional=dict.fromkeys(SORTS[system], words))),
        }
    return found


SPANS = st.lists(
    st.builds(
        lambda name, kind, failed, attributes, root: ended(name, kind, 1, failed, attributes, root=root),
        st.sampled_from(["GET", "work"]),
        st.sampled_from(["server", "consumer", "internal", "client", "producer"]),
        st.booleans(),
        attributes(),
        st.booleans(),
    ),
    max_size=40,
)


def series(red: Red) -> Counter[Any]:
    return Counter({(each.metric, each.labels): histogram.count for each, histogram in red.drain()})


@given(SPANS)
@settings(max_examples=150, deadline=None)
def test_many_spans_have_the_labels_that_each_has_alone(spans: list[Any]) -> None:
    together = Red()
    together.spans(spans)
    alone: Counter[Any] = Counter()
    for each in spans:
        red = Red()
        red.spans([each])
        alone += series(red)
    assert series(together) == alone
