"""The fake sampling service that users get: as strict as the real one, and ill on demand."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection, HTTPException

import pytest

from spanwell.testing import RULES, TARGETS, FakeClock, FakeSamplingService

ONE, TWO, THREE = ("1" * 24, "2" * 24, "3" * 24)


def post(service, path, document=None, timeout=5):
    """(status, answer) of one request."""
    connection = HTTPConnection(service.endpoint.partition("//")[2], timeout=timeout)
    try:
        connection.request("POST", f"/{path}", b"" if document is None else json.dumps(document))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def statistics(rule, client=ONE, requests=3, sampled=2, borrowed=1, **more):
    return {
        "RuleName": rule,
        "ClientID": client,
        "Timestamp": 1_700_000_000.25,
        "RequestCount": requests,
        "SampledCount": sampled,
        "BorrowCount": borrowed,
        **more,
    }


def report(service, *documents, boosts=None):
    document = {"SamplingStatisticsDocuments": list(documents)}
    if boosts is not None:
        document["SamplingBoostStatisticsDocuments"] = boosts
    return post(service, TARGETS, document)


BOOST = {
    "RuleName": "a",
    "ServiceName": "shop",
    "Timestamp": 1_700_000_000,
    "AnomalyCount": 2,
    "TotalCount": 9,
    "SampledAnomalyCount": 1,
}


@pytest.fixture
def clock():
    return FakeClock(1_700_000_000)


@pytest.fixture
def service(clock):
    rules = [{"RuleName": "a", "ReservoirSize": 5, "FixedRate": 0.25}, {"RuleName": "b"}]
    with FakeSamplingService(rules, clock=clock) as running:
        yield running


def test_a_clock_moves_when_told_and_back():
    clock = FakeClock(5)
    assert clock() == 5
    clock.advance(2.5)
    assert clock() == 7.5
    clock.advance(-4)
    assert clock() == 3.5


def test_rules_are_completed_and_dated(service, clock):
    status, answer = post(service, RULES)
    assert status == 200
    assert answer["NextToken"] is None
    first = answer["SamplingRuleRecords"][0]
    assert first["CreatedAt"] == first["ModifiedAt"] == clock()
    assert first["SamplingRule"]["URLPath"] == "*"
    assert first["SamplingRule"]["ReservoirSize"] == 5


def test_rules_change_while_it_runs(service, clock):
    before = report(service)[1]["LastRuleModification"]
    clock.advance(10)
    service.set_rules([{"RuleName": "a", "ReservoirSize": 5, "FixedRate": 0.25}, {"RuleName": "b", "Priority": 1}, 7])
    kept, changed, odd = post(service, RULES)[1]["SamplingRuleRecords"]
    assert (kept["CreatedAt"], kept["ModifiedAt"]) == (clock() - 10, clock() - 10)
    assert (changed["CreatedAt"], changed["ModifiedAt"]) == (clock() - 10, clock())
    assert odd == 7
    assert report(service)[1]["LastRuleModification"] == clock() > before
    clock.advance(-100)
    service.set_rules([])
    assert report(service)[1]["LastRuleModification"] > clock() + 100


def test_pages_fit_together_although_the_rules_change(service):
    service.page_size = 1
    first = post(service, RULES)[1]
    service.set_rules([])
    second = post(service, RULES, {"NextToken": first["NextToken"]})[1]
    assert second["SamplingRuleRecords"][0]["SamplingRule"]["RuleName"] == "b"
    assert second["NextToken"] is None
    assert service.violations == []


def test_a_target_for_every_document(service, clock):
    service.interval = 20
    status, answer = report(service, statistics("a"), statistics("gone"))
    assert status == 200
    assert answer["SamplingTargetDocuments"] == [
        {
            "RuleName": "a",
            "FixedRate": 0.25,
            "ReservoirQuota": 5,
            "ReservoirQuotaTTL": clock() + 300,
            "Interval": 20,
        }
    ]
    assert answer["UnprocessedStatistics"] == [{"RuleName": "gone", "ErrorCode": "400", "Message": "Unknown rule"}]
    assert service.total() == (3, 2, 1)
    assert [refused["RequestCount"] for refused in service.unprocessed] == [3]
    service.interval = None
    assert "Interval" not in report(service, statistics("a"))[1]["SamplingTargetDocuments"][0]


def test_clients_share_a_reservoir_while_they_report(service, clock):
    def quota(client):
        return report(service, statistics("a", client))[1]["SamplingTargetDocuments"][0]["ReservoirQuota"]

    assert quota(ONE) == 5
    assert quota(TWO) == 2
    assert quota(ONE) == 3
    assert [quota(client) for client in (THREE, TWO, ONE)] == [1, 2, 2]
    clock.advance(61)
    assert quota(THREE) == 5


def test_totals_by_rule_and_client(service):
    report(service, statistics("a"), statistics("b", requests=10, sampled=0, borrowed=0))
    report(service, statistics("a", TWO), statistics("a"))
    assert service.totals() == {("a", ONE): (6, 4, 2), ("b", ONE): (10, 0, 0), ("a", TWO): (3, 2, 1)}
    assert service.total("a") == (9, 6, 3)
    assert service.total(client=ONE).requests == 16
    assert service.total("nothing") == (0, 0, 0)


def test_boosts_are_given_and_taken(service, clock):
    service.set_boost("a", 0.8, seconds=60)
    status, answer = report(service, statistics("a"), boosts=[BOOST, {**BOOST, "RuleName": "gone"}])
    assert status == 200
    assert answer["SamplingTargetDocuments"][0]["SamplingBoost"] == {"BoostRate": 0.8, "BoostRateTTL": clock() + 60}
    assert answer["UnprocessedBoostStatistics"][0]["RuleName"] == "gone"
    assert service.boosts == [BOOST]
    clock.advance(61)
    assert "SamplingBoost" not in report(service, statistics("a"))[1]["SamplingTargetDocuments"][0]


def test_single_statistics_can_be_refused(service):
    service.refuse("a", "500", "not now")
    answer = report(service, statistics("a"), statistics("b"))[1]
    assert answer["UnprocessedStatistics"] == [{"RuleName": "a", "ErrorCode": "500", "Message": "not now"}]
    assert [target["RuleName"] for target in answer["SamplingTargetDocuments"]] == ["b"]
    assert set(service.totals()) == {("b", ONE)}
    service.refuse("a", "")
    assert report(service, statistics("a"))[1]["UnprocessedStatistics"] == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "the request is no JSON object"),
        ({}, "SamplingStatisticsDocuments is required"),
        ({"SamplingStatisticsDocuments": {}}, "SamplingStatisticsDocuments is no list"),
        ({"SamplingStatisticsDocuments": [statistics("a")] * 26}, "has 26 documents, more than 25"),
        ({"SamplingStatisticsDocuments": [7]}, "is no object"),
        ({"SamplingStatisticsDocuments": [], "SamplingBoostStatisticsDocuments": [BOOST] * 26}, "more than 25"),
        ({"SamplingStatisticsDocuments": [], "Statistics": []}, "unknown key Statistics"),
    ],
)
def test_a_malformed_request_is_refused(service, document, said):
    status, answer = post(service, TARGETS, document)
    assert status == 400
    assert said in answer["message"]
    assert service.violations == [f"{TARGETS}: {each}" for each in answer["message"].split("; ")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SampleCount": 2}, "unknown key SampleCount"),
        ({"RuleName": ""}, "RuleName is ''"),
        ({"RuleName": "x" * 33}, "RuleName is"),
        ({"ClientID": "1" * 23}, "ClientID is"),
        ({"ClientID": "G" * 24}, "ClientID is"),
        ({"Timestamp": 1_700_000_000_000}, "Timestamp is 1700000000000"),
        ({"Timestamp": "now"}, "Timestamp is 'now'"),
        ({"RequestCount": -1}, "RequestCount is -1"),
        ({"RequestCount": 3.0}, "RequestCount is 3.0"),
        ({"SampledCount": True}, "SampledCount is True"),
        ({"SampledCount": 4}, "SampledCount 4 is more than RequestCount 3"),
        ({"BorrowCount": 3}, "BorrowCount 3 is more than SampledCount 2"),
        ({"SampledCount": ...}, "SampledCount is required"),
    ],
    ids=str,
)
def test_a_malformed_document_is_refused(service, change, said):
    document = {key: value for key, value in statistics("a", **change).items() if value is not ...}
    status, answer = report(service, document)
    assert status == 400
    assert answer["message"].startswith(f"SamplingStatisticsDocuments[0]: {said}")
    assert service.totals() == {}


def test_a_borrow_count_is_optional(service):
    document = statistics("a")
    del document["BorrowCount"]
    assert report(service, document)[0] == 200
    assert service.total() == (3, 2, 0)


def test_a_malformed_boost_is_refused(service):
    status, answer = report(service, boosts=[{**BOOST, "AnomalyCount": 10}])
    assert status == 400
    assert "AnomalyCount 10 is more than TotalCount 9" in answer["message"]
    assert service.boosts == []


@pytest.mark.parametrize(
    ("path", "document"),
    [(RULES, {"NextToken": "x"}), (RULES, {"NextToken": [1]}), (RULES, {"Token": None}), ("GetSamplingTargets", {})],
)
def test_what_was_never_offered_is_refused(service, path, document):
    assert post(service, path, document)[0] == 400
    assert len(service.violations) == 1


def test_it_fails_a_number_of_times_on_one_path(service):
    service.fail(503, times=2, path=TARGETS)
    assert [report(service, statistics("a"))[0] for _ in range(3)] == [503, 503, 200]
    assert service.total() == (3, 2, 1)
    service.fail(500, path=TARGETS)
    assert post(service, RULES)[0] == 200
    assert report(service)[0] == 500
    service.recover()
    assert report(service)[0] == 200


def test_it_hangs_until_it_recovers(service):
    service.hang()
    ended = []

    def ask():
        with pytest.raises((OSError, HTTPException)):
            report(service, statistics("a"))
        ended.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    assert service.until(lambda: service.asked(TARGETS) == 1)
    assert ended == []
    service.recover()
    thread.join(10)
    assert ended == [True]
    assert service.totals() == {}


def test_it_hangs_as_long_as_it_is_told(service):
    service.hang(0.01)
    with pytest.raises((OSError, HTTPException)):
        post(service, RULES)


def test_garbage_truncation_and_drops(service):
    service.garbage(b"\x00", times=1)
    with pytest.raises(ValueError):
        post(service, RULES)
    service.truncate(times=1)
    with pytest.raises(HTTPException):
        post(service, RULES)
    service.drip(0.01)
    connection = HTTPConnection(service.endpoint.partition("//")[2], timeout=5)
    connection.request("POST", f"/{RULES}")
    response = connection.getresponse()
    assert response.read(3) == b"   "
    service.recover()
    with pytest.raises(HTTPException):
        response.read()
    connection.close()
    assert post(service, RULES)[0] == 200


def test_an_answer_can_be_edited(service):
    service.edit = lambda path, answer: {**answer, "SamplingTargetDocuments": [{"RuleName": "a", "FixedRate": 1.5}]}
    assert report(service, statistics("a"))[1]["SamplingTargetDocuments"] == [{"RuleName": "a", "FixedRate": 1.5}]


def test_requests_are_recorded(service, clock):
    post(service, RULES, {"NextToken": None})
    request = service.requests[0]
    assert request.path == RULES
    assert json.loads(request.body) == {"NextToken": None}
    assert request.headers["content-length"] == str(len(request.body))
    assert request.time == clock()


def test_waiting_ends(service):
    assert service.until(lambda: False, seconds=0.01) is False
    asking = threading.Timer(0.01, post, (service, RULES))
    asking.start()
    assert service.until(lambda: service.requests)
    asking.join()


def test_it_stops_and_starts_again(service):
    service.stop()
    with pytest.raises(RuntimeError, match="use it in a with block"):
        _ = service.endpoint
    service.start()
    assert post(service, RULES)[0] == 200


def test_many_clients_at_once_lose_nothing(service):
    def many():
        for _ in range(20):
            report(service, statistics("a"))

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.total() == (480, 320, 160)
    assert len(service.requests) == 160
