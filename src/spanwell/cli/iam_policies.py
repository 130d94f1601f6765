"""Which actions each destination needs in IAM, and on what. Pure.

Sources: the service authorization reference of X-Ray, CloudWatch, CloudWatch Logs, Kinesis and DynamoDB, and what our
own code calls, which a test compares. `*` stands where IAM knows no narrower resource.
"""

from __future__ import annotations

from typing import NamedTuple

from spanwell.export.cloudwatch_names import NAMESPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

EVERYTHING = ("*",)
_TABLE = "arn:{partition}:dynamodb:{region}:{account}:table/{table}"
_TABLES = (_TABLE,)
_TABLES_AND_INDEXES = (_TABLE, _TABLE + "/index/*")
_STREAMS = ("arn:{partition}:kinesis:{region}:{account}:stream/{stream}",)
# CloudWatch Logs matches a group with and without what follows it, depending on the action.
_LOG_GROUPS = (
    "arn:{partition}:logs:{region}:{account}:log-group:{log_group}",
    "arn:{partition}:logs:{region}:{account}:log-group:{log_group}:*",
)
_IN_NAMESPACE = {"StringEquals": {"cloudwatch:namespace": (NAMESPACE, "{namespace}")}}


class Grant(NamedTuple):
    """One statement. resources: ARNs with ``{table}`` and the like left open. need: "" always, else the option of the
    command that asks for it (``read``, ``create``)."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = EVERYTHING
    condition: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None
    need: str = ""


class Destination(NamedTuple):
    """What may be named on the command line. note: what the policy does not show, for people."""

    about: str
    grants: tuple[Grant, ...]
    note: str = ""


DESTINATIONS: Mapping[str, Destination] = {
    "otlp-aws": Destination(
        "spans to X-Ray's OTLP endpoint",
        (Grant("SpansOverOtlp", ("xray:PutSpans", "xray:PutSpansForIndexing", "xray:PutTraceSegments")),),
        "otlp-aws: Transaction Search must be on in the account; that is set once, with other permissions",
    ),
    "otlp-aws-metrics": Destination(
        "metrics to CloudWatch's OTLP endpoint", (Grant("MetricsOverOtlp", ("cloudwatch:PutMetricData",)),)
    ),
    "otlp-aws-logs": Destination(
        "log records to CloudWatch Logs' OTLP endpoint",
        (Grant("LogsOverOtlp", ("logs:PutLogEvents",), _LOG_GROUPS),),
        "otlp-aws-logs: the log group and the stream must exist",
    ),
    "xray": Destination(
        "segments over UDP: for the role of the X-Ray daemon or the CloudWatch agent",
        (Grant("SegmentsOfTheDaemon", ("xray:PutTelemetryRecords", "xray:PutTraceSegments")),),
        "xray: the application itself needs no permission; this is for the role of the daemon or agent, which needs"
        " `sampling` too where applications ask it for sampling rules",
    ),
    "xray_api": Destination("segments to X-Ray's API", (Grant("Segments", ("xray:PutTraceSegments",)),)),
    "sampling": Destination(
        "X-Ray's sampling rules (OTEL_TRACES_SAMPLER=xray)",
        (Grant("SamplingRules", ("xray:GetSamplingRules", "xray:GetSamplingTargets")),),
    ),
    "cloudwatch": Destination(
        "metrics with PutMetricData",
        (Grant("Metrics", ("cloudwatch:PutMetricData",), EVERYTHING, _IN_NAMESPACE),),
    ),
    "emf": Destination(
        "metrics as log events",
        (
            Grant("MetricsInLogs", ("logs:CreateLogStream", "logs:PutLogEvents"), _LOG_GROUPS),
            Grant("LogGroup", ("logs:CreateLogGroup",), _LOG_GROUPS, need="create"),
        ),
        "emf: on standard output (Lambda, an agent) the application itself needs no permission",
    ),
    "kinesis": Destination(
        "spans to a Kinesis stream",
        (Grant("Records", ("kinesis:PutRecords",), _STREAMS),),
        "kinesis: a stream encrypted with a key of yours needs kms:GenerateDataKey on that key too",
    ),
    "dynamodb": Destination(
        "spans to a DynamoDB table",
        (
            Grant("WriteTraces", ("dynamodb:BatchWriteItem",), _TABLES),
            Grant("ReadTraces", ("dynamodb:Query",), _TABLES_AND_INDEXES, need="read"),
            Grant("FinishTraces", ("dynamodb:PutItem",), _TABLES, need="read"),
            Grant(
                "MakeTheTable",
                ("dynamodb:CreateTable", "dynamodb:DescribeTable", "dynamodb:UpdateTimeToLive"),
                _TABLES,
                need="create",
            ),
        ),
        "dynamodb: a table encrypted with a key of yours needs kms:Decrypt and kms:GenerateDataKey on that key too;"
        " `finalise --metrics` needs `spanwell iam cloudwatch` as well",
    ),
}


class Scope(NamedTuple):
    """What the resources are narrowed to; `*` is anything."""

    region: str = "*"
    account: str = "*"
    table: str = "*"
    stream: str = "*"
    log_group: str = "*"
    namespace: str = NAMESPACE

    @property
    def partition(self) -> str:
        """The partition of the region; that of the commercial regions for any."""
        for start, partition in (
            ("cn-", "aws-cn"),
            ("us-gov-", "aws-us-gov"),
            ("eusc-", "aws-eusc"),
            ("us-isob-", "aws-iso-b"),
            ("us-isof-", "aws-iso-f"),
            ("eu-isoe-", "aws-iso-e"),
            ("us-iso-", "aws-iso"),
        ):
            if self.region.startswith(start):
                return partition
        return "aws"

    def fill(self, text: str) -> str:
        """`text` with its open places closed."""
        return text.format(partition=self.partition, **self._asdict())


def grants(names: Iterable[str], needs: Iterable[str] = ()) -> Iterator[Grant]:
    """The statements of the destinations `names`, each once; `needs`: ``read``, ``create``."""
    wanted = {"", *needs}
    for name in dict.fromkeys(names):
        yield from (grant for grant in DESTINATIONS[name].grants if grant.need in wanted)


def policy(names: Iterable[str], scope: Scope, needs: Iterable[str] = ()) -> dict[str, Any]:
    """An identity policy, as a tree for JSON."""
    return {
        "Version": "2012-10-17",
        "Statement": [_statement(grant, scope) for grant in grants(names, needs)],
    }


def _statement(grant: Grant, scope: Scope) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Sid": grant.sid,
        "Effect": "Allow",
        "Action": list(grant.actions),
        "Resource": _filled(grant.resources, scope),
    }
    if grant.condition:
        made["Condition"] = {
            operator: {key: _filled(values, scope) for key, values in tested.items()}
            for operator, tested in grant.condition.items()
        }
    return made


def _filled(texts: Iterable[str], scope: Scope) -> str | list[str]:
    found = list(dict.fromkeys(scope.fill(each) for each in texts))
    return found if len(found) > 1 else found[0]


def places(found: Iterable[Grant]) -> set[str]:
    """The fields of Scope that `found` have open."""
    shown = " ".join(
        [each for grant in found for each in grant.resources]
        + [
            each
            for grant in found
            for tested in (grant.condition or {}).values()
            for values in tested.values()
            for each in values
        ]
    )
    return {field for field in Scope._fields if f"{{{field}}}" in shown}
