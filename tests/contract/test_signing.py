"""Requests signed through botocore: every signature is computed again, and nothing of it is traced."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanwell.sampling.client import ClientError, SamplingClient
from spanwell.signing import Signer, SigningError
from spanwell.testing import FakeSamplingService
from support import metadata_server as servers
from support.sigv4 import judge


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def without(monkeypatch, *names):
    for name in names:
        monkeypatch.delenv(name, raising=False)


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def keys_of(service, secret="testing", region="eu-west-1"):
    """Whose signature each request that arrived carries."""
    return [judge(request, secret, f"/{request.path}", region, "xray") for request in service.requests]


def test_every_call_is_signed_as_it_arrives():
    with FakeSamplingService([{"RuleName": "a"}, {"RuleName": "b"}], page_size=1) as service:
        client = SamplingClient("aws", url=service.endpoint + "/")
        assert len(client.rules(print, seconds=30)) == 2
        client.targets([], [])
        assert service.violations == []
        assert keys_of(service) == ["testing"] * 3
        service.requests[0] = service.requests[0]._replace(body=b'{"x":1}')
        assert keys_of(service)[0] == ""


def test_the_region_of_the_argument_wins(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    with FakeSamplingService() as service:
        SamplingClient("aws", url=service.endpoint, region="cn-north-1").rules(print, seconds=30)
        assert keys_of(service, region="cn-north-1") == ["testing"]


def test_where_the_region_comes_from(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[default]\nregion = ap-south-1\n")
    assert Signer("xray").region == "eu-west-1"  # AWS_DEFAULT_REGION
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert Signer("xray").region == "eu-north-1"
    without(monkeypatch, "AWS_REGION", "AWS_DEFAULT_REGION")
    assert Signer("xray").region == "ap-south-1"


def test_an_instance_knows_its_region(monkeypatch):
    def imds(method, path, headers):
        if path == "/latest/api/token":
            return 200, b"token"
        return (200, b"us-west-2c") if path.endswith("/placement/availability-zone/") else (404, b"")

    without(monkeypatch, "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED")
    with servers.http(imds) as url:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        assert Signer("xray").region == "us-west-2"


@pytest.mark.parametrize("region", ["evil.example/", "EU-WEST-1", "a b", "x" * 41])
def test_a_region_that_is_none_is_refused(region):
    with pytest.raises(SigningError, match="needs a region such as eu-west-1, not "):
        Signer("xray", region).headers("POST", "https://xray.example/", b"", {})


def fails(**options):
    with pytest.raises(ClientError) as caught:
        SamplingClient("aws", url="http://127.0.0.1:9", **options).rules(print, seconds=30)
    return str(caught.value)


def test_without_a_region_the_remedy_is_told(monkeypatch):
    without(monkeypatch, "AWS_DEFAULT_REGION")
    with pytest.raises(
        ClientError, match=r"^endpoint=aws needs a region: set AWS_REGION, or region in the AWS profile$"
    ):
        SamplingClient("aws").rules(print)


def test_without_credentials_the_remedy_is_told(monkeypatch):
    without(monkeypatch, *KEYS)
    assert fails().startswith("endpoint=aws finds no AWS credentials: give the process a role")


def test_a_profile_that_is_missing_is_named(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in fails()


def test_without_boto3_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert fails(region="eu-west-1") == "endpoint=aws needs boto3: pip install 'spanwell[aws]'"


def container_credentials(answered):
    """Credentials that end soon, so that each signature needs new ones; the token counts."""

    def answer(method, path, headers):
        answered.append(path)
        end = datetime.now(timezone.utc) + timedelta(minutes=5)
        return 200, json.dumps(
            {
                "AccessKeyId": f"KEY{len(answered)}",
                "SecretAccessKey": "container",
                "Token": f"token-{len(answered)}",
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ).encode()

    return answer


def test_credentials_are_renewed_and_their_requests_never_traced(monkeypatch):
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

    without(monkeypatch, *KEYS)
    spans, answered = InMemorySpanExporter(), []
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    instrumentor = URLLib3Instrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with servers.http(container_credentials(answered)) as url, FakeSamplingService() as service:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/creds")
            client = SamplingClient("aws", url=service.endpoint)
            client.rules(print, seconds=30)
            client.rules(print, seconds=30)
            assert get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None
            first, second = keys_of(service, secret="container")
            assert first.startswith("KEY")
            assert second.startswith("KEY")
            assert first != second
            tokens = [request.headers["x-amz-security-token"] for request in service.requests]
            assert tokens == [f"token-{first[3:]}", f"token-{second[3:]}"]
            assert answered
            assert spans.get_finished_spans() == ()
            # The instrumentor does trace what is not ours:
            import urllib3

            urllib3.PoolManager().request("GET", f"{url}/creds")
            assert len(spans.get_finished_spans()) == 1
    finally:
        instrumentor.uninstrument()


def test_a_forked_child_starts_afresh():
    signer = Signer("xray")
    signer.headers("POST", "http://127.0.0.1/", b"", {})
    of_parent = signer._session
    signer._process = 1  # another process made it
    signed = signer.headers("POST", "http://127.0.0.1/", b"", {"X-A": "b"})
    assert signer._session is not of_parent
    assert signed["X-A"] == "b"
    assert set(signed) == {"X-A", "X-Amz-Date", "Authorization"}


def test_the_bundle_of_certificates_is_the_configured_one(monkeypatch):
    assert Signer("xray").cafile == ""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/ours.pem")
    assert Signer("xray").cafile == "/etc/ssl/ours.pem"
