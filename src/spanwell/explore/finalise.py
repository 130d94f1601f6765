"""A trace in DynamoDB is closed when it is idle: one final summary with what the whole of it shows.

Any reader may close a trace. A conditional put makes that happen once: who comes second changes nothing, and what
arrives later is read, but not judged again. The metrics of a closed trace have a state of their own: nobody's,
claimed by one process, sent. A claim holds for five minutes. So each trace's metrics are sent exactly once, unless
their process dies, or loses the answer, after CloudWatch took them and before it has noted that: then twice, never
less than once.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from spanwell.explore.model import StoreError
from spanwell.explore.summary import summarise
from spanwell.export import dynamodb_layout as layout
from spanwell.export.aws_client import TRANSIENT, error_code, explain, verdict
from spanwell.export.cloudwatch_names import DEFAULT, NAMESPACE
from spanwell.insights.written import LONGEST, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from spanwell.explore.model import Trace
    from spanwell.explore.problems import Finding
    from spanwell.explore.stores.dynamodb import DynamoDbStore
    from spanwell.explore.stores.dynamodb_parts import Found, Parts

IDLE_SECONDS = 30
LONGEST_SECONDS = 300
CLAIM_SECONDS = 300

_MOST = 50
_MINUTE = 60
_OLDEST = 13 * 86_400  # CloudWatch takes two weeks
_MAX_DATUMS = 1000
_CLAIMED, _SENT = "claimed", "sent"
_LOST_THE_RACE = "ConditionalCheckFailedException"


class Point(NamedTuple):
    """What one metric value is about: `minute` in Unix seconds."""

    type: str
    severity: str
    service: str
    minute: int


def due(parts: Parts, now: float) -> bool:
    """Whether nothing has come for 30 seconds, or the first came 5 minutes ago."""
    return now - parts.last_ms / 1000 >= IDLE_SECONDS or now - parts.first_ms / 1000 >= LONGEST_SECONDS


class Finaliser:
    """Closes the traces of `store`. `judge` finds what is the matter with one; `owner` names this process."""

    def __init__(
        self,
        store: DynamoDbStore,
        judge: Callable[[Trace], list[Finding]],
        *,
        owner: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._judge = judge
        self._owner = owner
        self._now = now

    def close(self, parts: Parts, trace: Trace | None = None) -> bool:
        """Close the trace if it is due; True if it is closed now, by this call or before."""
        if parts.final is not None:
            return True
        if not due(parts, self._now()):
            return False
        if trace is None:
            trace, _ = self._store.whole(parts.summary.trace_id)
        if trace is None:
            return False
        item = final_item(trace, self._judge(trace), expires=parts.expires, now_ms=int(self._now() * 1000))
        self._put(item, "attribute_not_exists(#s)", {"#s": layout.SORT})
        return True

    # --- metrics ------------------------------------------------------------------------------------------------

    def claim(self, final: Found) -> Found | None:
        """Take the metrics of a closed trace; None if they are sent, or another process's."""
        now_ms = int(self._now() * 1000)
        stale = now_ms - CLAIM_SECONDS * 1000
        if _state(final) == _SENT or (_state(final) == _CLAIMED and int(final["metrics_ms"]["N"]) >= stale):
            return None
        claimed = {
            **final,
            "metrics": {"S": _CLAIMED},
            "metrics_owner": {"S": self._owner},
            "metrics_ms": {"N": str(now_ms)},
        }
        return self._put(
            claimed,
            "attribute_exists(#s) AND (attribute_not_exists(#m) OR (#m = :claimed AND #t < :stale))",
            {"#s": layout.SORT, "#m": "metrics", "#t": "metrics_ms"},
            {":claimed": {"S": _CLAIMED}, ":stale": {"N": str(stale)}},
        )

    def sent(self, claimed: Found) -> Found | None:
        """Note that claimed metrics are sent."""
        return self._mine({**claimed, "metrics": {"S": _SENT}})

    def release(self, claimed: Found) -> Found | None:
        """Give claimed metrics back: CloudWatch has refused them."""
        return self._mine({name: value for name, value in claimed.items() if not name.startswith("metrics")})

    def _mine(self, item: Found) -> Found | None:
        return self._put(
            item,
            "#m = :claimed AND #o = :me",
            {"#m": "metrics", "#o": "metrics_owner"},
            {":claimed": {"S": _CLAIMED}, ":me": {"S": self._owner}},
        )

    def _put(
        self, item: Found, condition: str, names: dict[str, str], values: dict[str, Any] | None = None
    ) -> Found | None:
        """Put `item` if `condition` holds of the one that is there; None if it does not."""
        compared = {"ExpressionAttributeValues": values} if values else {}
        try:
            self._store.client.put_item(
                TableName=self._store.table,
                Item=item,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                **compared,
            )
        except Exception as error:
            if error_code(error) != _LOST_THE_RACE:
                raise
            return None
        return item

    def send(self, finals: Iterable[Found], cloudwatch: Any, *, everything: bool) -> list[str]:
        """Send the metrics of closed traces that nobody has sent; the ids of those traces.

        `everything`: also what a process of the application has found itself, and may have counted. Raises
        `StoreError`.
        """
        mine = [claimed for claimed in map(self.claim, finals) if claimed is not None]
        counted = Counter(point for final in mine for point in points(final, everything, self._now()))
        try:
            for request in requests(counted):
                cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=request)
        except Exception as error:
            if len(counted) <= _MAX_DATUMS and error_code(error) and verdict(error) != TRANSIENT:
                for final in mine:
                    self.release(final)
            said = explain(error, denied="allow cloudwatch:PutMetricData")
            raise StoreError(f"CloudWatch did not take the metrics of {len(mine)} traces: {said}") from error
        for final in mine:
            self.sent(final)
        return [final[layout.KEY]["S"] for final in mine]


def settled(final: Found) -> bool:
    """Whether the metrics of a closed trace are sent."""
    return _state(final) == _SENT


def _state(final: Found) -> str:
    return str(final["metrics"]["S"]) if "metrics" in final else ""


def final_item(trace: Trace, findings: Iterable[Finding], *, expires: int, now_ms: int) -> dict[str, dict[str, Any]]:
    """The final summary of a trace: that of its spans, whether it is complete, and its insights, at most 50."""
    summary = summarise(trace)
    item: dict[str, dict[str, Any]] = {
        layout.KEY: {"S": trace.trace_id},
        layout.SORT: {"S": layout.FINAL},
        layout.START: {"N": str(summary.start_ns)},
        "end_ns": {"N": str(summary.end_ns)},
        "duration_ns": {"N": str(summary.duration)},
        "spans": {"N": str(summary.spans)},
        "errors": {"N": str(summary.errors)},
        "orphans": {"N": str(summary.orphans)},
        "complete": {"BOOL": summary.complete},
        "services": {"L": [{"S": service.name} for service in summary.services[:_MOST]]},
        "insights": {"S": json.dumps(list(_insights(trace, findings))[:_MOST])},
        "written_ms": {"N": str(now_ms)},
        layout.EXPIRES: {"N": str(expires)},
    }
    if summary.root_service is not None and summary.root_name is not None:
        item["root_service"] = {"S": summary.root_service}
        item["root_name"] = {"S": summary.root_name[:LONGEST]}
    return item


def _insights(trace: Trace, findings: Iterable[Finding]) -> Iterator[dict[str, Any]]:
    told = {(each.type, span.service) for span in trace.spans for each in read(span.attributes)}
    for found in findings:
        # Alarms are about the service that was asked; where it went wrong is in the sentence.
        service = trace.root.service if trace.root is not None else found.services[0]
        yield {
            "type": found.type,
            "severity": found.severity,
            "service": service,
            "services": list(found.services[:_MOST]),
            "sentence": found.sentence[:LONGEST],
            "fingerprint": found.fingerprint,
            "told_by_process": (found.type, service) in told,
        }


def points(final: Found, everything: bool, now: float) -> Iterator[Point]:
    """What the closed trace adds to `DistributedTracing/Insights`."""
    end = max(int(final["end_ns"]["N"]) / 1e9, now - _OLDEST)
    minute = int(min(end, now)) // _MINUTE * _MINUTE
    for insight in json.loads(final["insights"]["S"]):
        if insight["type"] in DEFAULT and (everything or not insight["told_by_process"]):
            yield Point(insight["type"], insight["severity"], insight["service"], minute)


def requests(counted: Counter[Point]) -> Iterator[list[dict[str, Any]]]:
    """The metrics as PutMetricData takes them."""
    from datetime import datetime, timezone

    from spanwell.export.cloudwatch_names import ascii_text

    datums = [
        {
            "MetricName": point.type,
            "Dimensions": [
                {"Name": "Severity", "Value": ascii_text(point.severity)},
                {"Name": "ServiceName", "Value": ascii_text(point.service)},
            ],
            "Timestamp": datetime.fromtimestamp(point.minute, timezone.utc),
            "Values": [1.0],
            "Counts": [float(count)],
            "Unit": "Count",
        }
        for point, count in counted.items()
    ]
    for start in range(0, len(datums), _MAX_DATUMS):
        yield datums[start : start + _MAX_DATUMS]
