"""Whatever the files, the environment and the metadata say: no exception, and only valid attributes."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from spanwell import _guard
from spanwell.enrich.aws import AwsResourceDetector
from spanwell.enrich.container import container_id, pod_mounts
from spanwell.enrich.platforms import ecs_attributes
from spanwell.enrich.service import default_service_name

texts = st.text(max_size=200)
cgroups = st.lists(
    st.one_of(
        texts,
        st.from_regex(r"\A[0-9]{1,2}:[a-z]*:/[a-z.-]{0,20}[/:-][0-9a-f]{31,66}(-[0-9]{1,3})?(\.scope)?\Z"),
        st.from_regex(r"\A1 2 0:1 /containers/[0-9a-f]{64}/hostname /etc/hostname rw - a b c\Z"),
    ),
    max_size=5,
).map("\n".join)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts, st.just("arn:aws:ecs:r:111122223333:task/a/b")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
_ECS_KEYS = (
    *("Labels", "TaskARN", "ContainerARN", "Cluster", "LaunchType", "AvailabilityZone", "Family", "Revision"),
    *("DockerId", "DockerName", "Image", "ImageID", "LogDriver", "LogOptions"),
)
documents = st.dictionaries(st.sampled_from(_ECS_KEYS), values)
environments = st.dictionaries(
    st.sampled_from(
        (
            *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_LOG_GROUP_NAME"),
            *("ECS_CONTAINER_METADATA_URI_V4", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"),
            *("AWS_REGION", "AWS_ACCOUNT_ID", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "HOSTNAME"),
            *("AWS_WEB_IDENTITY_TOKEN_FILE", "OTEL_RESOURCE_ATTRIBUTES", "DJANGO_SETTINGS_MODULE", "FLASK_APP"),
        )
    ),
    texts,
)


@given(cgroups, cgroups)
def test_any_text_gives_an_id_or_nothing(cgroup, mountinfo):
    found = container_id(cgroup, mountinfo)
    assert found == "" or re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{32}-[0-9]+", found)
    assert all(isinstance(part, str) for part in pod_mounts(mountinfo))


@given(documents, documents)
def test_any_metadata_gives_texts_and_lists_of_texts(container, task):
    for value in ecs_attributes(container, task).values():
        assert isinstance(value, str) or all(isinstance(item, str) for item in value)


@given(environments, texts, st.one_of(st.binary(max_size=50), documents.map(lambda d: json.dumps(d).encode())))
def test_detection_never_raises(environ, file, body):
    def read(path):
        return "Amazon EC2" if path.endswith("sys_vendor") else file

    def fetch(method, url, headers, seconds, cafile):
        return body

    def readlink(path):
        return file

    detector = AwsResourceDetector(environ, read=read, fetch=fetch, readlink=readlink)
    _guard.strict = True
    try:
        attributes = detector.detect().attributes
    finally:
        _guard.strict = False
    assert attributes["cloud.provider"] == "aws"
    assert "service.name" not in attributes
    assert all(attributes.values())
    json.dumps(dict(attributes), ensure_ascii=False).encode()


@given(environments, st.lists(texts, max_size=6), texts)
def test_a_service_always_gets_a_printable_name(environ, argv, main):
    name, _ = default_service_name(environ, argv, main)
    assert name.strip() == name != ""
    assert name.isprintable()
    assert len(name) <= 255
