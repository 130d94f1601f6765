"""What X-Ray documents about segment documents, as a check: fields, their types and lengths, what is required.

Source: AWS X-Ray Developer Guide, "AWS X-Ray segment documents"; annotation keys and values: the X-Ray SDKs' guides.
The blocks eks, xray, cloudwatch_logs and more of ecs and ec2 are those of the collector's awsxrayexporter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Check = Callable[[str, Any], None]
SIGNED = 2**63


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    assert len(made) == len(pairs), [key for key, _ in pairs]
    return made


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def parse(document: bytes, limit: int = 65_536) -> dict[str, Any]:
    """The document, if it is strict JSON in UTF-8 of at most 64 kB without repeated keys."""
    assert len(document) <= limit, len(document)
    text = document.decode("utf-8")
    found = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    assert isinstance(found, dict)
    return found


def check(document: bytes) -> dict[str, Any]:
    """The parsed document; AssertionError if X-Ray's documentation forbids something in it."""
    found = parse(document)
    _segment("", found)
    is_subsegment = found.get("type") == "subsegment"
    if is_subsegment:
        assert "parent_id" in found
    else:
        assert "namespace" not in found
    for field in ("trace_id", "id", "name", "start_time", "end_time"):
        assert field in found, field
    assert found["end_time"] >= found["start_time"]
    return found


def text(limit: int = 250) -> Check:
    def run(where: str, value: Any) -> None:
        assert isinstance(value, str), (where, value)
        assert 0 < len(value) <= limit or (limit == 250 and value == ""), (where, len(value))

    return run


def pattern(expression: str) -> Check:
    def run(where: str, value: Any) -> None:
        assert isinstance(value, str), (where, value)
        assert re.fullmatch(expression, value), (where, value)

    return run


def number(where: str, value: Any) -> None:
    assert isinstance(value, (int, float)), (where, value)
    assert not isinstance(value, bool), where
    assert value >= 0, (where, value)


def integer(where: str, value: Any) -> None:
    assert isinstance(value, int), (where, value)
    assert not isinstance(value, bool), where
    assert -SIGNED <= value < SIGNED, (where, value)


def boolean(where: str, value: Any) -> None:
    assert isinstance(value, bool), (where, value)


def array(of: Check) -> Check:
    def run(where: str, value: Any) -> None:
        assert isinstance(value, list), (where, value)
        for index, each in enumerate(value):
            of(f"{where}[{index}]", each)

    return run


def fields(required: tuple[str, ...] = (), **checks: Check) -> Check:
    def run(where: str, value: Any) -> None:
        assert isinstance(value, dict), (where, value)
        assert not value.keys() - checks.keys(), (where, value.keys() - checks.keys())
        for field in required:
            assert field in value, (where, field)
        for field, each in value.items():
            checks[field](f"{where}.{field}", each)

    return run


def name(where: str, value: Any) -> None:
    assert isinstance(value, str), (where, value)
    assert 1 <= len(value) <= 200, (where, len(value))
    odd = [c for c in value if not (c.isalnum() or c.isspace() or c in "_.:/%&#=+\\-@")]
    assert not odd, (where, odd)


def annotations(where: str, value: Any) -> None:
    assert isinstance(value, dict), where
    assert len(value) <= 50, (where, len(value))
    for key, each in value.items():
        assert re.fullmatch(r"[A-Za-z0-9_.]{1,500}", key), (where, key)
        assert isinstance(each, (str, bool, int, float)), (where, key, each)
        assert not isinstance(each, str) or len(each) <= 1000, (where, key)


def metadata(where: str, value: Any) -> None:
    assert isinstance(value, dict), where
    for space, each in value.items():
        assert isinstance(each, dict), (where, space)


def cause(where: str, value: Any) -> None:
    if isinstance(value, str):
        ID(where, value)
        return
    fields(working_directory=text(), paths=array(text()), exceptions=array(EXCEPTION))(where, value)
    ids = [each["id"] for each in value["exceptions"]]
    assert len(set(ids)) == len(ids), where
    for each in value["exceptions"]:
        assert each.get("cause", ids[0]) in ids, where


def anything(where: str, value: Any) -> None:
    pass


ID = pattern("[0-9a-f]{16}")
TRACE_ID = pattern("1-[0-9a-f]{8}-[0-9a-f]{24}")
FRAME = fields(path=text(), line=integer, label=text())
EXCEPTION = fields(
    ("id",),
    id=ID,
    message=text(),
    type=text(),
    remote=boolean,
    truncated=integer,
    skipped=integer,
    cause=ID,
    stack=array(FRAME),
)
HTTP = fields(
    request=fields(
        method=text(), url=text(), user_agent=text(), client_ip=text(), x_forwarded_for=boolean, traced=boolean
    ),
    response=fields(status=integer, content_length=integer),
)
SQL = fields(
    connection_string=text(),
    url=text(),
    sanitized_query=text(),
    database_type=text(),
    database_version=text(),
    driver_version=text(),
    user=text(),
    preparation=pattern("call|statement"),
)
AWS = fields(
    account_id=text(),
    ecs=fields(
        container=text(),
        container_id=text(),
        container_arn=text(),
        cluster_arn=text(),
        task_arn=text(),
        task_family=text(),
        launch_type=text(),
        availability_zone=text(),
    ),
    ec2=fields(instance_id=text(), availability_zone=text(), instance_size=text(), ami_id=text()),
    eks=fields(cluster_name=text(), pod=text(), container_id=text()),
    elastic_beanstalk=fields(environment_name=text(), version_label=text(), deployment_id=integer),
    cloudwatch_logs=array(fields(log_group=text(), arn=text())),
    xray=fields(sdk=text(), sdk_version=text(), auto_instrumentation=boolean),
    operation=text(),
    region=text(),
    request_id=text(),
    retries=integer,
    queue_url=text(),
    table_name=text(),
    table_names=array(text()),
    resource_names=array(text()),
    bucket_name=text(),
    key=text(),
    topic_arn=text(),
    stream_name=text(),
    function_name=text(),
)
ORIGINS = (
    "AWS::EC2::Instance|AWS::ECS::Container|AWS::ECS::EC2|AWS::ECS::Fargate|AWS::EKS::Container"
    "|AWS::ElasticBeanstalk::Environment|AWS::AppRunner::Service"
)
COMMON: dict[str, Check] = {
    "id": ID,
    "name": name,
    "trace_id": TRACE_ID,
    "start_time": number,
    "end_time": number,
    "in_progress": boolean,
    "parent_id": ID,
    "type": pattern("subsegment"),
    "namespace": pattern("aws|remote|local"),
    "service": fields(version=text(), runtime=text(), runtime_version=text()),
    "user": text(),
    "origin": pattern(ORIGINS),
    "http": HTTP,
    "aws": AWS,
    "sql": SQL,
    "error": boolean,
    "throttle": boolean,
    "fault": boolean,
    "cause": cause,
    "annotations": annotations,
    "metadata": metadata,
    "links": array(fields(("trace_id", "id"), trace_id=TRACE_ID, id=ID, attributes=anything)),
    "precursor_ids": array(ID),
}


def _segment(where: str, value: Any) -> None:
    fields((), **COMMON, subsegments=array(_segment))(where, value)
