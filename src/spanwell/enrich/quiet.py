"""What is too dull to export while it goes well: health checks, empty polls, calls for credentials. No OpenTelemetry
state here: `sampling.quiet` acts on it.
"""

from __future__ import annotations

import re
import sys

from opentelemetry.trace import SpanKind, StatusCode

from spanwell._otel.spans import attributes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

HEALTH, POLLS, CREDENTIALS = "health", "polls", "credentials"
DEFAULT = (HEALTH, POLLS, CREDENTIALS)
WANTED = "a list of health, polls, credentials, path:<glob>, agent:<text> and host:<name>, or none"

_AGENTS = ("elb-healthchecker", "kube-probe", "amazon-route53-health-check-service", "envoy/hc")
# Not `/healthcare` and not `/health-insurance`: a business of its own.
_PATHS = r"/health(?:z|y)?(?:[-_]?(?:checks?|status|live|ready|probe))?(?:\.\w+)?(?:/.*)?|/(?:ping|livez|readyz)/?"
_STARTS = ("/health", "/ping", "/livez", "/readyz")
_METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]")
# What a credential chain calls STS for; an application that assumes a role by itself has no such caller.
_CHAIN = frozenset(("botocore.credentials", "aiobotocore.credentials"))
_STS = frozenset(("AssumeRole", "AssumeRoleWithWebIdentity", "GetSessionToken"))
_SQS, _STS_NAMES = frozenset(("SQS", "sqs")), frozenset(("STS", "sts"))
_MOST_AGENTS = 512
_LONGEST = 256
_DEEPEST = 60


class Rules:
    """Which spans may be left out: `kinds` of DEFAULT, and requests of these paths (globs), agents and hosts."""

    def __init__(
        self,
        kinds: Iterable[str] = DEFAULT,
        paths: Iterable[str] = (),
        agents: Iterable[str] = (),
        hosts: Iterable[str] = (),
    ) -> None:
        kinds = frozenset(kinds)
        health = HEALTH in kinds
        self.kinds = kinds
        self._polls = POLLS in kinds
        self._credentials = CREDENTIALS in kinds
        self._agents = tuple(agent.lower() for agent in agents) + (_AGENTS if health else ())
        patterns = [_glob(path) for path in paths] + ([_PATHS] if health else [])
        self._paths = "|".join(patterns)
        # A look at how a path begins spares nearly all of them the regular expression.
        starts = [re.split(r"[*?]", path, maxsplit=1)[0].lower() for path in paths]
        self._starts = (*starts, *(_STARTS if health else ()))
        self._path: Callable[[str], object] | None = None  # compiled at the first request: a start has no time for it
        self._hosts = frozenset(host.lower() for host in hosts) | frozenset(_METADATA if self._credentials else ())
        # A look at the text finds nearly all URLs to be of another host.
        self._signs = tuple({*hosts, *(("169.254.1", "[fd00:ec2:") if self._credentials else ())})
        self._known: dict[str, bool] = {}

    def request(self, attributes: Mapping[str, Any] | None, name: str = "") -> str:
        """HEALTH for the attributes that the span of such a request starts with, old names or new; else "".

        Behind a WSGI server that gives neither RAW_URI nor REQUEST_URI only the span's name, `GET health/`, tells the
        path.
        """
        if not attributes:
            return ""
        agent = attributes.get("user_agent.original") or attributes.get("http.user_agent")
        if type(agent) is str and self._is_checker(agent):
            return HEALTH
        if not self._paths:
            return ""
        path = attributes.get("url.path") or attributes.get("http.target") or attributes.get("url.full")
        if path is None:
            path = "/" + name.partition(" ")[2].strip("^$").removeprefix("/")
        if not isinstance(path, str):
            return ""
        if path[:1] != "/":
            path = "/" + path.partition("://")[2].partition("/")[2]
        if not path[:_LONGEST].lower().startswith(self._starts):
            return ""
        if self._path is None:
            self._path = re.compile(self._paths, re.IGNORECASE).fullmatch
        if not self._path(path[:_LONGEST].partition("?")[0]):
            return ""
        method = attributes.get("http.request.method") or attributes.get("http.method")
        return HEALTH if method in ("GET", "HEAD", None) else ""

    def call(self, attributes: Mapping[str, Any] | None) -> str:
        """POLLS or CREDENTIALS for the attributes that the span of such a call starts with; else ""."""
        if not attributes:
            return ""
        url = attributes.get("url.full") or attributes.get("http.url")
        if url is not None:
            return CREDENTIALS if self._is_metadata(url) else ""
        method = attributes.get("rpc.method")
        if type(method) is not str:
            return ""
        if method == "ReceiveMessage":
            return POLLS if self._polls and str(attributes.get("rpc.service")) in _SQS else ""
        if method in _STS and self._credentials and str(attributes.get("rpc.service")) in _STS_NAMES:
            return CREDENTIALS if _asked_by_chain() else ""
        return ""

    def label(self, kind: SpanKind | None, attributes: Mapping[str, Any] | None, name: str = "") -> str:
        """`request` or `call`, by the kind of the span."""
        if kind is SpanKind.SERVER:
            return self.request(attributes, name)
        return self.call(attributes) if kind is SpanKind.CLIENT or kind is SpanKind.CONSUMER else ""

    def _is_checker(self, agent: str) -> bool:
        known = self._known.get(agent)
        if known is None:
            lower = agent[:_LONGEST].lower()
            known = any(sign in lower for sign in self._agents)
            if len(self._known) >= _MOST_AGENTS:
                self._known.clear()
            self._known[agent] = known
        return known

    def _is_metadata(self, url: Any) -> bool:
        start = str(url)[:_LONGEST]
        for sign in self._signs:  # every call of an HTTP client comes by here
            if sign in start:
                break
        else:
            return False
        place = re.split(r"[/?#]", start.partition("://")[2], maxsplit=1)[0].rpartition("@")[2].lower()
        return place in self._hosts or (not place.endswith("]") and place.rpartition(":")[0] in self._hosts)


def failed(span: ReadableSpan) -> bool:
    """Whether an ended span tells of a failure: status ERROR, or an answer of 5xx."""
    if span.status.status_code is StatusCode.ERROR:
        return True
    attributes = attributes_of(span)
    status = attributes.get("http.response.status_code") or attributes.get("http.status_code")
    return isinstance(status, int) and status >= 500


def idle(label: str, span: ReadableSpan) -> bool:
    """Whether an ended span of this `label` that did not fail is to be left out: a poll only if it got nothing."""
    if label != POLLS:
        return True
    attributes = attributes_of(span)
    return not (attributes.get("messaging.message.id") or attributes.get("messaging.batch.message_count"))


def parse(words: Iterable[str], report: Callable[[str], object]) -> Rules | None:
    """The rules of SPANWELL_QUIET; None when nothing is quiet. What cannot be read is reported, the rest applies."""
    kinds: list[str] = []
    chosen: dict[str, list[str]] = {"path": [], "agent": [], "host": []}
    for word in words:
        name, mark, value = word.partition(":")
        if word.lower() in DEFAULT:
            kinds.append(word.lower())
        elif mark and name.lower() in chosen and value.strip():
            chosen[name.lower()].append(value.strip())
        elif word.lower() != "none":
            report(f"SPANWELL_QUIET: {word!r} is left out: expected {WANTED}")
    if not kinds and not any(chosen.values()):
        return None
    return Rules(kinds, chosen["path"], chosen["agent"], chosen["host"])


def _glob(pattern: str) -> str:
    return "".join(".*" if each == "*" else "." if each == "?" else re.escape(each) for each in pattern)


def _asked_by_chain() -> bool:
    frame, deep = sys._getframe(1), 0
    while frame is not None and deep < _DEEPEST:
        if frame.f_globals.get("__name__") in _CHAIN:
            return True
        frame, deep = frame.f_back, deep + 1  # type: ignore[assignment]
    return False
