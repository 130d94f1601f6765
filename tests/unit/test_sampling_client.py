"""The client of the X-Ray sampling API against a service that is well and ill in every way we could think of."""

from __future__ import annotations

import json
import time

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value

from spanwell import exchange
from spanwell.sampling import client as under_test
from spanwell.sampling.client import ClientError, SamplingClient, check_endpoint
from spanwell.testing import RULES, FakeSamplingService
from support import metadata_server as servers

CLIENT = "0123456789abcdef01234567"


def statistics(rule, requests=3, sampled=2, borrowed=1):
    return {
        "RuleName": rule,
        "ClientID": CLIENT,
        "Timestamp": 1_700_000_000,
        "RequestCount": requests,
        "SampledCount": sampled,
        "BorrowCount": borrowed,
    }


@pytest.fixture
def service():
    with FakeSamplingService([{"RuleName": f"r{index}"} for index in range(5)]) as running:
        yield running


def fails(call, *arguments):
    """The line of the failure, and its status."""
    with pytest.raises(ClientError) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line, caught.value.status


def names(records):
    return [record["SamplingRule"]["RuleName"] for record in records]


def test_rules_of_one_page(service):
    reports = []
    assert names(SamplingClient(service.endpoint).rules(reports.append)) == ["r0", "r1", "r2", "r3", "r4"]
    assert reports == []
    assert service.violations == []
    assert [request.body for request in service.requests] == [b"{}"]


def test_rules_of_all_pages_in_order(service):
    service.page_size = 2
    assert names(SamplingClient(service.endpoint).rules(print)) == ["r0", "r1", "r2", "r3", "r4"]
    assert service.asked(RULES) == 3
    assert service.violations == []


def test_pages_that_have_no_end_are_an_error(service):
    service.edit = lambda path, answer: {**answer, "NextToken": "again"}
    service._tokens["again"] = (service._records, 0)
    line, _ = fails(SamplingClient(service.endpoint).rules, print)
    assert line.endswith("GetSamplingRules: the pages have no end: a NextToken came twice")
    assert service.asked(RULES) == 2


def test_ever_new_pages_are_an_error(service):
    def endless(path, answer):
        token = f"t{len(service.requests)}"
        service._tokens[token] = ([], 0)
        return {**answer, "NextToken": token}

    service.edit = endless
    line, _ = fails(SamplingClient(service.endpoint).rules, print)
    assert "more than 50 pages" in line
    assert service.asked(RULES) == 50


def test_pages_may_not_fill_the_memory(service):
    def heavy(path, answer):
        token = f"t{len(service.requests)}"
        service._tokens[token] = ([], 0)
        return {"NextToken": token, "SamplingRuleRecords": ["x" * 900_000]}

    service.edit = heavy
    line, _ = fails(SamplingClient(service.endpoint).rules, print)
    assert "4194304 bytes" in line
    assert service.asked(RULES) == 5


def test_a_failure_on_a_later_page_is_a_failure_of_all(service):
    service.page_size = 2
    service.edit = lambda path, answer: answer if len(service.requests) < 2 else {"NextToken": None}
    line, _ = fails(SamplingClient(service.endpoint).rules, print)
    assert line.endswith("the answer has no list SamplingRuleRecords")


def test_a_token_that_is_no_text_ends_the_pages_and_is_said(service):
    service.edit = lambda path, answer: {**answer, "NextToken": 7}
    reports = []
    assert len(SamplingClient(service.endpoint).rules(reports.append)) == 5
    assert len(reports) == 1
    assert "NextToken is '7', no text" in reports[0]


def test_records_are_handed_on_unchecked(service):
    service.set_rules([None, 7, {"RuleName": "good"}, {"SamplingRule": "bad"}])
    assert len(SamplingClient(service.endpoint).rules(print)) == 4


def test_targets_in_one_request(service):
    service.interval = 15
    boost = {
        "RuleName": "r1",
        "ServiceName": "shop",
        "Timestamp": 1_700_000_000.5,
        "AnomalyCount": 2,
        "TotalCount": 9,
        "SampledAnomalyCount": 1,
    }
    answer = SamplingClient(service.endpoint).targets([statistics("r0"), statistics("r1", 10, 4, 0)], [boost])
    assert [target["RuleName"] for target in answer["SamplingTargetDocuments"]] == ["r0", "r1"]
    assert answer["SamplingTargetDocuments"][0]["Interval"] == 15
    assert service.total() == (13, 6, 1)
    assert service.boosts == [boost]
    assert service.violations == []


def test_without_boosts_their_list_is_not_sent(service):
    SamplingClient(service.endpoint).targets([statistics("r0")], [])
    assert list(json.loads(service.requests[0].body)) == ["SamplingStatisticsDocuments"]


def test_what_the_service_says_about_a_refusal_is_told(service):
    client = SamplingClient(service.endpoint)
    line, status = fails(client.targets, [{**statistics("r0"), "ClientID": "x"}], [])
    assert line == (
        f"{service.endpoint}/SamplingTargets: status 400: InvalidRequestException: "
        "SamplingStatisticsDocuments[0]: ClientID is 'x'"
    )
    assert status == 400


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"message":"out\\nof order"}', ": out of order"),
        (b"<html>\n<b>Bad Gateway\x1b[31m", ": <html> <b>Bad Gateway [31m"),
        (b"", ""),
        (b"[1]", ": [1]"),
        (b'{"__type":"com.amazonaws#Throttled","Message":""}', ": Throttled"),
        (b"x" * 5000, ": " + "x" * 200),
    ],
)
def test_a_failure_is_one_readable_line(answer, said):
    with servers.http(lambda *request: (503, answer)) as url:
        assert fails(SamplingClient(url).rules, print) == (f"{url}/GetSamplingRules: status 503{said}", 503)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "the answer is not JSON: '<html>'"),
        (b"", "the answer is not JSON: ''"),
        (b"\xff\xfe\x00", "the answer is not JSON"),
        (b"[" * 100_000, "the answer is not JSON"),
        (b'{"a": ' + b"7" * 1000 + b"}", "the answer is not JSON"),
        (b"[]", "the answer is JSON, but no object"),
        (b"null", "the answer is JSON, but no object"),
        (b"{}", "the answer has no list SamplingRuleRecords"),
        (b'{"SamplingRuleRecords": null}', "the answer has no list SamplingRuleRecords"),
        (b" " * (1 << 20) + b"{}", "more than 1048576 bytes"),
    ],
    ids=["html", "empty", "binary", "deep", "digits", "list", "null", "no rules", "null rules", "huge"],
)
def test_garbage_is_an_error(service, body, said):
    service.garbage(body)
    line, status = fails(SamplingClient(service.endpoint).rules, print)
    assert line.startswith(f"{service.endpoint}/GetSamplingRules: {said}")
    assert status == 0


@pytest.mark.parametrize(
    ("ill", "said"),
    [
        (FakeSamplingService.hang, "no answer in time"),
        (lambda service: service.drip(0.02), "no answer in time"),
        (FakeSamplingService.truncate, "the connection was closed before the answer was complete"),
    ],
    ids=["hang", "drip", "truncate"],
)
def test_an_ill_service_costs_the_limit_at_most(service, ill, said):
    ill(service)
    client = SamplingClient(service.endpoint, seconds=0.15)
    assert fails(client.rules, print)[0].endswith(said)
    assert fails(client.targets, [statistics("r0")], [])[0].endswith(said)
    service.recover()
    assert len(client.rules(print, seconds=5)) == 5
    assert service.total() == (0, 0, 0)


def test_all_pages_share_one_limit(service):
    def slow(path, answer):
        time.sleep(0.06)
        return answer

    service.page_size = 1
    service.edit = slow
    assert fails(SamplingClient(service.endpoint, seconds=0.15).rules, print)[0].endswith("no answer in time")
    assert service.asked(RULES) < 5


def test_a_service_that_is_gone_refuses(service):
    client = SamplingClient(service.endpoint)
    service.stop()
    assert fails(client.rules, print)[0].endswith("GetSamplingRules: Connection refused")


def test_a_closed_client_calls_nobody(service):
    client = SamplingClient(service.endpoint)
    client.close()
    assert fails(client.targets, [], [])[0].endswith("SamplingTargets: the client is closed")
    assert service.requests == []


def test_calls_are_not_traced(service, monkeypatch):
    seen, real = [], exchange.send

    def send(*arguments, **options):
        seen.append(get_value(_SUPPRESS_INSTRUMENTATION_KEY))
        return real(*arguments, **options)

    monkeypatch.setattr(exchange, "send", send)
    client = SamplingClient(service.endpoint)
    client.rules(print)
    client.targets([], [])
    assert seen == [True, True]
    assert get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None


@pytest.mark.parametrize(
    ("raw", "endpoint"),
    [
        ("http://127.0.0.1:2000", "http://127.0.0.1:2000"),
        ("http://127.0.0.1:2000/", "http://127.0.0.1:2000"),
        ("127.0.0.1:2000", "http://127.0.0.1:2000"),
        ("localhost", "http://localhost"),
        ("xray-daemon.observability:2000", "http://xray-daemon.observability:2000"),
        ("[::1]:2000", "http://[::1]:2000"),
        ("https://proxy.example/xray/", "https://proxy.example/xray"),
        ("aws", "aws"),
        ("AWS", "aws"),
    ],
)
def test_an_endpoint_is_completed(raw, endpoint):
    assert check_endpoint(raw) == endpoint
    assert SamplingClient(raw).endpoint == endpoint


@pytest.mark.parametrize(
    "raw",
    [
        *("", " ", "/", "http://", "udp://127.0.0.1:2000", "127.0.0.1:x", "127.0.0.1:99999", "http://[::1", "a b"),
        *(
            "http://a\nb",
            "http://bücher.example",
            "http://user:secret@host",
            "http://host?x=1",
            "http://host#x",
            "::1",
        ),
    ],
)
def test_an_endpoint_that_is_none_says_what_is_wanted(raw):
    with pytest.raises(ValueError, match=r"^aws, or an address such as http://127\.0\.0\.1:2000") as caught:
        check_endpoint(raw)
    assert "secret" not in str(caught.value)


def test_each_region_has_its_address():
    assert under_test._address("eu-west-1") == "https://xray.eu-west-1.amazonaws.com"
    assert under_test._address("cn-north-1") == "https://xray.cn-north-1.amazonaws.com.cn"
