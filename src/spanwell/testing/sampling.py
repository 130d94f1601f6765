"""An X-Ray sampling service on loopback, well and ill."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from spanwell.testing.wire import COUNTS, RULES, TARGETS, problems

_RULE = {
    "Priority": 10000,
    "FixedRate": 0.05,
    "ReservoirSize": 1,
    "ServiceName": "*",
    "ServiceType": "*",
    "Host": "*",
    "HTTPMethod": "*",
    "URLPath": "*",
    "ResourceARN": "*",
    "Version": 1,
    "Attributes": {},
}
_REMEMBERED = 60.0
_MAX_REQUEST = 1 << 20


class Request(NamedTuple):
    """One request as it came: the last part of its path, headers by lower-case names, the time by the clock."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    time: float


class Totals(NamedTuple):
    """Sums over the statistics that the service took."""

    requests: int = 0
    sampled: int = 0
    borrowed: int = 0


class _Fault(NamedTuple):
    kind: str
    value: Any
    path: str
    times: int | None


class FakeSamplingService:
    """GetSamplingRules and SamplingTargets as the X-Ray daemon offers them, on 127.0.0.1 and a free port.

    Use it in a `with` block, or call `start` and `stop`. Everything may be changed while it runs; thread-safe.

    rules: see `set_rules`. page_size: rules in one answer, 0 for all. interval: seconds until the next report, which
    every target tells; None tells nothing. quota_ttl: seconds for which a reservoir quota holds. clock: gives epoch
    seconds.
    edit: called with the path and the answer, a dict, before it leaves; what it returns leaves instead.

    `requests` has every request. `violations` has a sentence for everything that X-Ray would not accept; such a
    request gets status 400. `boosts` has the boost statistics taken, `unprocessed` the statistics refused one by one.
    """

    def __init__(
        self,
        rules: Iterable[object] = (),
        *,
        page_size: int = 0,
        interval: int | None = 10,
        quota_ttl: float = 300.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.page_size = page_size
        self.interval = interval
        self.quota_ttl = quota_ttl
        self.edit: Callable[[str, dict[str, Any]], object] | None = None
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.boosts: list[dict[str, Any]] = []
        self.unprocessed: list[dict[str, Any]] = []
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._release = threading.Event()
        self._records: list[object] = []
        self._modified = 0.0
        self._tokens: dict[str, tuple[list[object], int]] = {}
        self._totals: dict[tuple[str, str], Totals] = {}
        self._seen: dict[str, dict[str, float]] = {}
        self._boost: dict[str, Mapping[str, float]] = {}
        self._refused: dict[str, tuple[str, str]] = {}
        self._fault: _Fault | None = None
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.set_rules(rules)

    # --- running

    def start(self) -> FakeSamplingService:
        """Listen, and answer from a thread of its own."""
        handler = type("_Handler", (_Handler,), {"service": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="FakeSamplingService", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Refuse connections from now on; requests that hang end. The records stay readable."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join(5)
        self.recover()

    def __enter__(self) -> FakeSamplingService:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Its address, for `endpoint=`. Raises RuntimeError if it does not run."""
        if self._server is None:
            raise RuntimeError("the service does not run: use it in a with block")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # --- what it answers

    def set_rules(self, rules: Iterable[object]) -> None:
        """Replace the rules; LastRuleModification moves on.

        A dict with RuleName is a SamplingRule: what it does not say has X-Ray's defaults, which match everything.
        Anything else, such as a whole SamplingRuleRecord or something malformed, is answered as it is.
        """
        with self._changed:
            now = self._modified = max(self._clock(), self._modified + 0.001)
            before = {rule["RuleName"]: record for record in self._records if (rule := _rule_of(record)) is not None}
            self._records = [self._record(rule, before, now) for rule in rules]

    def set_boost(self, rule: str, rate: float | None, seconds: float = 60.0) -> None:
        """Give the targets of `rule` a SamplingBoost for `seconds` from now; with None no longer."""
        with self._changed:
            self._boost.pop(rule, None)
            if rate is not None:
                self._boost[rule] = {"BoostRate": rate, "BoostRateTTL": self._clock() + seconds}

    def refuse(self, rule: str, code: str = "500", message: str = "Internal failure") -> None:
        """Answer the statistics of `rule` under UnprocessedStatistics, uncounted; with code "" no longer."""
        with self._changed:
            self._refused.pop(rule, None)
            if code:
                self._refused[rule] = (code, message)

    # --- how it can be ill: one fault at a time, for `times` requests or until `recover`; path "" is both

    def fail(
        self, status: int = 503, times: int | None = None, path: str = "", message: str = "out of order"
    ) -> None:
        """Answer with an HTTP `status`."""
        self._set(_Fault("fail", (status, message), path, times))

    def hang(self, seconds: float = 3600.0, times: int | None = None, path: str = "") -> None:
        """Answer nothing for `seconds`, then close the connection."""
        self._set(_Fault("hang", seconds, path, times))

    def garbage(self, body: bytes = b"\x00<html>{", times: int | None = None, path: str = "") -> None:
        """Answer 200 with this body."""
        self._set(_Fault("garbage", body, path, times))

    def drip(self, seconds: float = 0.05, times: int | None = None, path: str = "") -> None:
        """Answer 200 with a body that never ends, a byte every `seconds`."""
        self._set(_Fault("drip", seconds, path, times))

    def truncate(self, times: int | None = None, path: str = "") -> None:
        """Answer 200 and close the connection in the middle of the body."""
        self._set(_Fault("truncate", None, path, times))

    def recover(self) -> None:
        """Be well again; what hangs or drips ends now, its connection closed."""
        self._set(None)

    # --- what it saw

    def totals(self) -> dict[tuple[str, str], Totals]:
        """The sums of all statistics taken, by rule name and ClientID."""
        with self._changed:
            return dict(self._totals)

    def total(self, rule: str = "", client: str = "") -> Totals:
        """The sums of one rule, one client, or everything."""
        chosen = [
            found
            for (name, who), found in self.totals().items()
            if (not rule or rule == name) and (not client or client == who)
        ]
        return Totals(*(sum(column) for column in zip(*chosen, strict=True))) if chosen else Totals()

    def asked(self, path: str) -> int:
        """How many requests came for RULES or TARGETS."""
        with self._changed:
            return sum(request.path == path for request in self.requests)

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> bool:
        """Wait until `condition()` is true, which is looked at after every request; False if it is not in time."""
        end = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.05))
            return True

    # --- inside

    def _set(self, fault: _Fault | None) -> None:
        with self._changed:
            self._fault = fault
            self._release.set()
            self._release = threading.Event()

    def _take(self, request: Request) -> tuple[_Fault | None, threading.Event]:
        """Record a request; the fault it meets, and what ends the fault."""
        with self._changed:
            self.requests.append(request)
            fault = self._fault
            if fault is None or (fault.path and fault.path != request.path):
                return None, self._release
            if fault.times is not None:
                self._fault = fault._replace(times=fault.times - 1) if fault.times > 1 else None
            return fault, self._release

    def _told(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _answer(self, path: str, body: bytes) -> tuple[int, object]:
        with self._changed:
            found = problems(path, body, self._tokens)
            self.violations += [f"{path}: {problem}" for problem in found]
            if found:
                kind = "ResourceNotFoundException" if path not in (RULES, TARGETS) else "InvalidRequestException"
                return 400, {"__type": kind, "message": "; ".join(found)}
            document = json.loads(body or b"{}")
            answer = self._page(document.get("NextToken")) if path == RULES else self._targets(document)
            return 200, self.edit(path, answer) if self.edit is not None else answer

    def _record(self, rule: object, before: Mapping[str, Any], now: float) -> object:
        if not isinstance(rule, dict) or "RuleName" not in rule:
            return rule
        name = rule["RuleName"]
        made = {**_RULE, "RuleARN": f"arn:aws:xray:us-east-1:111122223333:sampling-rule/{name}", **rule}
        known = before.get(name) if isinstance(name, str) else None
        if known is not None and known["SamplingRule"] == made:
            return known
        return {"SamplingRule": made, "CreatedAt": known.get("CreatedAt", now) if known else now, "ModifiedAt": now}

    def _page(self, token: str | None) -> dict[str, Any]:
        # A token holds on to its list: pages fit together although the rules change in between.
        records, start = self._tokens[token] if token else (self._records, 0)
        end = start + (self.page_size or len(records) or 1)
        following = None
        if end < len(records):
            following = f"page-{len(self._tokens)}"
            self._tokens[following] = (records, end)
        return {"NextToken": following, "SamplingRuleRecords": records[start:end]}

    def _targets(self, document: Mapping[str, Any]) -> dict[str, Any]:
        rules = {rule["RuleName"]: rule for record in self._records if (rule := _rule_of(record)) is not None}
        targets, refused, refused_boosts = [], [], []
        for statistics in document["SamplingStatisticsDocuments"]:
            name = statistics["RuleName"]
            problem = self._refusal(name, rules)
            if problem is not None:
                refused.append(problem)
                self.unprocessed.append({**statistics, **problem})
                continue
            key = (name, statistics["ClientID"])
            added = [statistics.get(count, 0) for count in COUNTS]
            self._totals[key] = Totals(*map(sum, zip(self._totals.get(key, Totals()), added, strict=True)))
            targets.append(self._target(rules[name], statistics["ClientID"]))
        for boost in document.get("SamplingBoostStatisticsDocuments") or ():
            problem = self._refusal(boost["RuleName"], rules)
            if problem is not None:
                refused_boosts.append(problem)
            else:
                self.boosts.append(boost)
        return {
            "LastRuleModification": self._modified,
            "SamplingTargetDocuments": targets,
            "UnprocessedStatistics": refused,
            "UnprocessedBoostStatistics": refused_boosts,
        }

    def _refusal(self, name: str, rules: Mapping[str, Any]) -> dict[str, Any] | None:
        code, message = self._refused.get(name, ("", ""))
        if not code and name not in rules:
            code, message = "400", "Unknown rule"
        return {"RuleName": name, "ErrorCode": code, "Message": message} if code else None

    def _target(self, rule: Mapping[str, Any], client: str) -> dict[str, Any]:
        now = self._clock()
        seen = self._seen.setdefault(rule["RuleName"], {})
        seen[client] = now
        known = sorted(each for each, last in seen.items() if abs(now - last) <= _REMEMBERED)
        size = rule.get("ReservoirSize")
        share, rest = divmod(size, len(known)) if isinstance(size, int) else (0, 0)
        made = {
            "RuleName": rule["RuleName"],
            "FixedRate": rule.get("FixedRate"),
            "ReservoirQuota": share + (known.index(client) < rest),
            "ReservoirQuotaTTL": now + self.quota_ttl,
        }
        if self.interval is not None:
            made["Interval"] = self.interval
        boost = self._boost.get(rule["RuleName"])
        if boost is not None and boost["BoostRateTTL"] > now:
            made["SamplingBoost"] = dict(boost)
        return made


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    service: FakeSamplingService
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        self.close_connection = True
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MAX_REQUEST:
            self.service.violations.append(f"Content-Length is {length[:40]!r}")
            self._reply(413, b"{}")
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the client went away
            return
        path = self.path.rpartition("/")[2]
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault, release = self.service._take(Request(path, body, headers, self.service._clock()))
        try:
            if fault is None:
                status, answer = self.service._answer(path, body)
                self._reply(status, json.dumps(answer).encode())
            else:
                self._suffer(fault, release)
        finally:
            self.service._told()

    def _suffer(self, fault: _Fault, release: threading.Event) -> None:
        if fault.kind == "fail":
            status, message = fault.value
            self._reply(status, json.dumps({"message": message}).encode())
        elif fault.kind == "garbage":
            self._reply(200, fault.value)
        elif fault.kind == "hang":
            release.wait(fault.value)
        elif fault.kind == "truncate":
            self._reply(200, b'{"SamplingRuleRecords": [', promised=1000)
        else:
            self._reply(200, b" ", promised=1_000_000)
            while not release.wait(fault.value):
                self.wfile.write(b" ")  # OSError once the client has had enough: `handle_error`

    def _reply(self, status: int, body: bytes, promised: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(promised or len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


def _rule_of(record: object) -> dict[str, Any] | None:
    rule = record.get("SamplingRule") if isinstance(record, dict) else None
    return rule if isinstance(rule, dict) and isinstance(rule.get("RuleName"), str) else None
