"""Which resource an AWS call is about, with the types and identifiers of CloudWatch Application Signals.

Those follow the names of AWS Cloud Control, e.g. `AWS::SQS::Queue` and the name of the queue. Of a composed
identifier the parts are separated by `|`, so `|` and `^` within a name are escaped.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

TYPE = "aws.remote.resource.type"
IDENTIFIER = "aws.remote.resource.identifier"

_MAX_NAME = 2048
_MAX_MEMO = 1024


def escaped(name: str) -> str:
    """`name` as part of an identifier."""
    return name.replace("^", "^^").replace("|", "^|") if "^" in name or "|" in name else name


def queue_name(url: str) -> str:
    """The queue of an SQS queue URL, or "" where the URL is none: `https://host/<12 digits>/<name>`."""
    parts = url.partition("://")[2].split("/")
    if len(parts) != 3 or not parts[1].isdigit() or not 0 < len(parts[2]) <= 80:
        return ""
    letters = parts[2].removesuffix(".fifo").replace("-", "").replace("_", "")
    return parts[2] if letters.isalnum() else ""


def after_colon(arn: str) -> str:
    """The last part of an ARN whose resource is `type:name` or just a name."""
    return arn.rpartition(":")[2]


def after_slash(arn_or_name: str) -> str:
    """The name in an ARN whose resource is `type/name`, without what may follow; a plain name as it is."""
    return arn_or_name.split("/")[1] if arn_or_name.startswith("arn:") and "/" in arn_or_name else arn_or_name


def function_name(name_or_arn: str) -> str:
    """The function in `name`, `name:alias`, `account:function:name` or an ARN, without version or alias."""
    parts = name_or_arn.split(":")
    return parts[parts.index("function") + 1] if "function" in parts[:-1] else parts[0]


def state_machine_name(execution_arn: str) -> str:
    """The state machine of an execution: `arn:aws:states:region:account:execution:machine:name`."""
    parts = execution_arn.split(":")
    return parts[6] if len(parts) >= 8 else ""


def _same(name: str) -> str:
    return name


# Service id -> (attribute, type, attribute value -> name), the most specific first.
_BEDROCK: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("aws.bedrock.agent.id", "AWS::Bedrock::Agent", _same),
    ("aws.bedrock.data_source.id", "AWS::Bedrock::DataSource", _same),
    ("aws.bedrock.guardrail.id", "AWS::Bedrock::Guardrail", after_slash),
    ("aws.bedrock.knowledge_base.id", "AWS::Bedrock::KnowledgeBase", _same),
    ("gen_ai.request.model", "AWS::Bedrock::Model", _same),
)
_RULES: dict[str, tuple[tuple[str, str, Callable[[str], str]], ...]] = {
    "DynamoDB": (("aws.dynamodb.table_names", "AWS::DynamoDB::Table", after_slash),),
    "Kinesis": (("aws.kinesis.stream_name", "AWS::Kinesis::Stream", _same),),
    "S3": (("aws.s3.bucket", "AWS::S3::Bucket", _same),),
    "SQS": (
        ("aws.sqs.queue.url", "AWS::SQS::Queue", queue_name),
        ("aws.queue_url", "AWS::SQS::Queue", queue_name),
    ),
    "SNS": (("aws.sns.topic.arn", "AWS::SNS::Topic", after_colon),),
    "Secrets Manager": (("aws.secretsmanager.secret.arn", "AWS::SecretsManager::Secret", after_colon),),
    "SFN": (
        ("aws.step_functions.state_machine.arn", "AWS::StepFunctions::StateMachine", after_colon),
        ("aws.step_functions.activity.arn", "AWS::StepFunctions::Activity", after_colon),
    ),
    "Lambda": (("aws.lambda.resource_mapping.id", "AWS::Lambda::EventSourceMapping", _same),),
    "Bedrock": _BEDROCK,
    "Bedrock Agent": _BEDROCK,
    "Bedrock Agent Runtime": _BEDROCK,
    "Bedrock Runtime": _BEDROCK,
}


class Resources:
    """Finds (type, identifier); of each attribute it remembers a thousand of the values it has taken apart."""

    def __init__(self) -> None:
        self._rules: dict[str, list[tuple[str, str, Callable[[str], str], dict[Any, Any]]]] = {
            service: [(*rule, {}) for rule in rules] for service, rules in _RULES.items()
        }

    def find(self, service: str, attributes: Mapping[str, Any]) -> tuple[str, str] | None:
        """The one resource that a call of `service` (its id, e.g. "Secrets Manager") is about; None if several."""
        for key, kind, name_of, known in self._rules.get(service, ()):
            value = attributes.get(key)
            if value.__class__ is tuple or value.__class__ is list:
                value = value[0] if len(value) == 1 else None
            if value.__class__ is not str:
                continue
            found: tuple[str, str] | None = known.get(value)
            if found is None:
                found = (kind, escaped(name_of(value[:_MAX_NAME])))
                if len(known) >= _MAX_MEMO:
                    known.clear()
                if len(value) <= _MAX_NAME:
                    known[value] = found
            if found[1]:
                return found
        return None
