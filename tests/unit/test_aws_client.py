"""What an error of botocore or AWS means: whether to try again, and one line with the remedy."""

from __future__ import annotations

import sys

import pytest
from botocore import exceptions

from spanwell.export import aws_client
from spanwell.export.aws_client import PERMANENT, THROTTLED, TRANSIENT, explain, verdict
from spanwell.signing import SigningError


def answer(code: str, message: str = "", status: int = 400) -> exceptions.ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return exceptions.ClientError(response, "PutRecords")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (answer("ProvisionedThroughputExceededException"), THROTTLED),
        (answer("ThrottlingException"), THROTTLED),
        (answer("KMSThrottlingException"), THROTTLED),
        (answer("Whatever", status=429), THROTTLED),
        (answer("InternalFailure", status=500), TRANSIENT),
        (answer("503", status=503), TRANSIENT),
        (answer("RequestTimeoutException"), TRANSIENT),
        (answer("AccessDeniedException"), PERMANENT),
        (answer("ResourceNotFoundException"), PERMANENT),
        (exceptions.EndpointConnectionError(endpoint_url="http://x"), TRANSIENT),
        (exceptions.ReadTimeoutError(endpoint_url="http://x"), TRANSIENT),
        (exceptions.ConnectionClosedError(endpoint_url="http://x"), TRANSIENT),
        (ConnectionResetError(), TRANSIENT),
        (exceptions.NoCredentialsError(), PERMANENT),
        (exceptions.UnauthorizedSSOTokenError(), PERMANENT),
        (exceptions.ParamValidationError(report="x"), PERMANENT),
        (SigningError("needs a region"), PERMANENT),
        (ModuleNotFoundError("No module named 'botocore'"), PERMANENT),
    ],
)
def test_verdicts(error: Exception, expected: str) -> None:
    assert verdict(error) == expected


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (exceptions.PartialCredentialsError(provider="env", cred_var="aws_secret_access_key"), "secret_access_key"),
        (exceptions.UnauthorizedSSOTokenError(), "aws sso login"),
        (exceptions.NoRegionError(), "set AWS_REGION"),
        (exceptions.EndpointConnectionError(endpoint_url="http://x"), "check the region"),
        (exceptions.SSLError(endpoint_url="https://x", error="bad"), "AWS_CA_BUNDLE"),
        (ModuleNotFoundError("No module named 'botocore'"), "pip install 'spanwell[aws]'"),
        (SigningError("needs boto3: pip install 'spanwell[aws]'"), "needs boto3"),
        (answer("ExpiredTokenException", "The security token is expired"), "expired: renew"),
        (answer("InvalidSignatureException", "Signature expired: 2020 is now earlier than 2021"), "clock"),
        (answer("InvalidSignatureException", "The request signature we calculated does not match"), "check AWS_A"),
        (answer("UnrecognizedClientException"), "does not know these credentials"),
        (answer("AccessDeniedException", "User: x is not authorized"), "User: x is not authorized (allow a:B)"),
        (answer("ResourceNotFoundException", "Stream s not found."), "Stream s not found (create it)"),
        (answer("InternalFailure"), "InternalFailure"),
        (ValueError(), "ValueError"),
    ],
)
def test_one_line_names_the_remedy(error: Exception, words: str) -> None:
    line = explain(error, missing="create it", denied="allow a:B")
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize("url", ["https://kinesis.eu-west-1.amazonaws.com", "http://127.0.0.1:1", "http://[::1]:1"])
def test_endpoints_that_are_safe(url: str) -> None:
    aws_client.refuse_plain_text(url)


@pytest.mark.parametrize("url", ["http://10.0.0.1:4566", "http://kinesis.example"])
def test_plain_text_over_a_network_is_refused(url: str) -> None:
    with pytest.raises(SigningError, match="plain text"):
        aws_client.refuse_plain_text(url)


def test_without_boto3_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(SigningError, match=r"needs boto3: pip install 'spanwell\[aws\]'"):
        aws_client.make_client("kinesis")


def test_a_client_tries_once_in_the_region_of_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:9")
    client = aws_client.make_client("kinesis")
    assert client.meta.region_name == "eu-central-1"
    assert client.meta.endpoint_url == "http://127.0.0.1:9"
    assert aws_client.make_client("kinesis", region="us-east-1").meta.region_name == "us-east-1"
    with pytest.raises(Exception) as raised:
        client.put_records(StreamName="s", Records=[{"Data": b"", "PartitionKey": "x"}])
    assert verdict(raised.value) == TRANSIENT
    assert "check the region" in explain(raised.value)
