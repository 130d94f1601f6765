"""X-Ray sampling rules: read from the wire, put in order, and matched against a root span.

Source: the X-Ray API reference (SamplingRule) and what its SDKs do. A rule matches if every field of it does:

| field | what is compared |
| --- | --- |
| URLPath | url.path, http.target, or the path of url.full or http.url; "/" if none is there; never the query |
| HTTPMethod | http.request.method, http.method; http.request.method_original where that is `_OTHER` |
| Host | server.address, net.host.name, http.host |
| ServiceName | service.name of the resource |
| ServiceType | AWS::…, from cloud.platform of the resource |
| ResourceARN | aws.ecs.container.arn; on Lambda cloud.resource_id or faas.id, of the resource or else of the span |
| Attributes | every key must be there when the span starts, with a value that matches |

Patterns are globs (`spanwell.sampling.glob`). A value that is missing matches only a pattern made of stars. Values
that are no text are compared as `text_of` shows them.
"""

from __future__ import annotations

from typing import NamedTuple

from spanwell.sampling.glob import Glob, fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    Read = Callable[[Mapping[str, Any]], "str | None"]


class Boost(NamedTuple):
    """How far the service may raise a rule's rate when there are anomalies, and for how long it must rest then."""

    max_rate: float
    cooldown_minutes: int


class Rule(NamedTuple):
    """One sampling rule. Patterns are globs; `reservoir_size` is in traces a second, `fixed_rate` from 0 to 1."""

    name: str
    priority: int = 10000
    fixed_rate: float = 0.05
    reservoir_size: int = 1
    service_name: str = "*"
    service_type: str = "*"
    host: str = "*"
    http_method: str = "*"
    url_path: str = "*"
    resource_arn: str = "*"
    attributes: Mapping[str, str] = {}
    boost: Boost | None = None
    default_anomaly_detection: bool = True


def order(rules: Iterable[Rule]) -> list[Rule]:
    """As they are tried: by priority, and by the code points of the name within one."""
    return sorted(rules, key=lambda rule: (rule.priority, rule.name))


def parse(records: Iterable[object], report: Callable[[str], object]) -> list[Rule]:
    """The rules of SamplingRuleRecords, or of bare SamplingRule objects, in order.

    A field that is missing has the default of `Rule`. A rule that X-Ray would not accept is left out, and so is one
    without a name or of another version; `report` gets one line for each, with field, value and remedy. Never raises.
    """
    rules: dict[str, Rule] = {}
    for number, record in enumerate(records, 1):
        found = record.get("SamplingRule", record) if isinstance(record, dict) else record
        try:
            rule = _rule(found, report)
            if rule.name in rules:
                raise ValueError("RuleName is there twice; the first one applies, rename the other")
        except ValueError as error:
            name = found.get("RuleName") if isinstance(found, dict) else None
            report(f"sampling rule {shown(name) if name else number}: {error}; this rule is left out")
        else:
            rules[rule.name] = rule
    return order(rules.values())


_TEXTS = {
    "ServiceName": ("service_name", 64),
    "ServiceType": ("service_type", 64),
    "Host": ("host", 64),
    "HTTPMethod": ("http_method", 10),
    "URLPath": ("url_path", 128),
    "ResourceARN": ("resource_arn", 500),
}


def _rule(found: object, report: Callable[[str], object]) -> Rule:
    if not isinstance(found, dict):
        raise ValueError(f"{shown(found)} is no object; write a SamplingRule")
    given = {key: value for key, value in found.items() if value is not None}
    name = text_field(given, "RuleName", "", 32)
    if not name:
        raise ValueError("RuleName is missing; give it one of 1 to 32 characters")
    if given.get("Version", 1) != 1:
        raise ValueError(f"Version {shown(given['Version'])} is not known; write it as version 1")
    fields = {mine: text_field(given, theirs, "*", longest) for theirs, (mine, longest) in _TEXTS.items()}
    return Rule(
        name,
        int(number_field(given, "Priority", 10000, low=1, high=10000, whole=True)),
        number_field(given, "FixedRate", 0.05, high=1),
        int(number_field(given, "ReservoirSize", 1, whole=True)),
        attributes=_attributes(given.get("Attributes", {})),
        boost=_boost(given.get("SamplingRateBoost"), name, report),
        default_anomaly_detection=not _disables_detection(given),
        **fields,
    )


def text_field(given: Mapping[str, Any], field: str, default: str, longest: int) -> str:
    """The text of a field, or `default`. Raises ValueError, one line, for what is no text of at most `longest`."""
    value = given.get(field, default)
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{field} {shown(value)} is no text of at most {longest} characters")
    return value


def number_field(
    given: Mapping[str, Any], field: str, default: float, low: int = 0, high: int = 10**9, whole: bool = False
) -> float:
    """The number of a field, or `default`. Raises ValueError, one line, for what is none from `low` to `high`."""
    value = given.get(field, default)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not good or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise ValueError(f"{field} {shown(value)} is no {kind} from {low}" + (f" to {high}" if high < 10**9 else ""))
    return float(value)


def _attributes(given: object) -> dict[str, str]:
    if not isinstance(given, dict) or len(given) > 5:
        raise ValueError(f"Attributes {shown(given)} is no object of at most 5 attributes")
    for key, value in given.items():
        texts = isinstance(key, str) and isinstance(value, str)
        if not texts or not 1 <= len(key) <= 32 or not 1 <= len(value) <= 32:
            raise ValueError(f"Attributes {shown({key: value})} is no text of 1 to 32 characters for another")
    return dict(given)


def _boost(given: Any, name: str, report: Callable[[str], object]) -> Boost | None:
    if given is None:
        return None
    try:
        if not isinstance(given, dict):
            raise ValueError(f"{shown(given)} is no object with MaxRate and CooldownWindowMinutes")
        rate = number_field(given, "MaxRate", -1, high=1)
        return Boost(rate, int(number_field(given, "CooldownWindowMinutes", -1, whole=True)))
    except ValueError as error:
        report(f"sampling rule {name!r}: SamplingRateBoost: {error}; the rule applies without boost")
        return None


def _disables_detection(given: Mapping[str, Any]) -> bool:
    # X-Ray's published model does not have it; AWS's distro reads it within SamplingRateBoost.
    boost = given.get("SamplingRateBoost")
    holders = (given, boost) if isinstance(boost, dict) else (given,)
    return any(holder.get("DisableDefaultAnomalyDetection") is True for holder in holders)


def shown(value: object) -> str:
    """`value` for a message: at most 100 characters, on one line."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # too deep, or an int of too many digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 100 else text[:99] + "…"


def text_of(value: object) -> str | None:
    """An attribute's value as patterns see it; None for None. Never raises.

    Text as it is, `true` or `false`, numbers as Python prints them, bytes as UTF-8, and sequences and mappings as
    JSON without spaces: `["a","b"]`.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (int, float)):
            return str(value)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        from spanwell.values import dumps

        # The JSON of one attribute, without its name: {"":…}
        shown = dumps({"": value})[4:-1]
        return str(value) if shown.startswith('"') else shown
    except Exception:
        return f"<{type(value).__name__}>"


# --- from a request to the texts that patterns see ------------------------------------------------------------------


def _first(attributes: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            return value if type(value) is str else text_of(value)
    return None


def _path(attributes: Mapping[str, Any]) -> str:
    path = _first(attributes, ("url.path",)) or _first(attributes, ("http.target",))
    if path:
        return (path.partition("?")[0] if "?" in path else path) or "/"
    for key in ("url.full", "http.url"):
        _, mark, rest = (_first(attributes, (key,)) or "").partition("://")
        if mark:
            slash = rest.partition("#")[0].partition("?")[0].partition("/")
            return slash[1] + slash[2] or "/"
    return "/"


def _method(attributes: Mapping[str, Any]) -> str | None:
    method = _first(attributes, ("http.request.method", "http.method"))
    if method == "_OTHER":
        return _first(attributes, ("http.request.method_original",)) or method
    return method


def _host(attributes: Mapping[str, Any]) -> str | None:
    return _first(attributes, ("server.address", "net.host.name", "http.host"))


_LAMBDA_ARN = ("cloud.resource_id", "faas.id")


def _span_arn(attributes: Mapping[str, Any]) -> str | None:
    return _first(attributes, _LAMBDA_ARN)


SERVICE_TYPES = {
    "aws_ec2": "AWS::EC2::Instance",
    "aws_ecs": "AWS::ECS::Container",
    "aws_eks": "AWS::EKS::Container",
    "aws_elastic_beanstalk": "AWS::ElasticBeanstalk::Environment",
    "aws_lambda": "AWS::Lambda::Function",
}


def _fields(resource: Mapping[str, Any]) -> list[tuple[str, str, Read | str | None]]:
    """Name on the wire, name in `Rule`, and what is compared: known from the resource, or read from the span."""
    platform = _first(resource, ("cloud.platform",)) or ""
    arn: Read | str | None = _first(resource, ("aws.ecs.container.arn",))
    if arn is None and platform == "aws_lambda":
        arn = _first(resource, _LAMBDA_ARN) or _span_arn
    return [
        ("ServiceName", "service_name", _first(resource, ("service.name",))),
        ("ServiceType", "service_type", SERVICE_TYPES.get(platform)),
        ("ResourceARN", "resource_arn", arn),
        ("HTTPMethod", "http_method", _method),
        ("URLPath", "url_path", _path),
        ("Host", "host", _host),
    ]


def _reader(key: str) -> Read:
    def read(attributes: Mapping[str, Any]) -> str | None:
        return text_of(attributes.get(key))

    return read


# --- matching -------------------------------------------------------------------------------------------------------


class RuleSet:
    """Rules, ready to be matched in one service.

    What the resource decides is decided here, once. Of a span, each value that any rule looks at is read once and
    gives a mask of the rules that it leaves possible; the lowest bit left is the first rule in order. Safe to share
    between threads.
    """

    def __init__(self, rules: Iterable[Rule], resource: Mapping[str, Any]) -> None:
        self.rules = tuple(order(rules))
        self._possible = (1 << len(self.rules)) - 1
        self._dimensions: list[_Dimension] = []
        for _, name, seen in _fields(resource):
            self._add([getattr(rule, name) for rule in self.rules], seen)
        for key in sorted({key for rule in self.rules for key in rule.attributes}):
            self._add([rule.attributes.get(key) for rule in self.rules], _reader(key), present=True)
        self._dimensions.sort(key=lambda dimension: dimension.effort)

    def _add(self, patterns: Sequence[str | None], seen: Read | str | None, *, present: bool = False) -> None:
        read = seen if callable(seen) else _no_text
        dimension = _Dimension(patterns, read, self._possible, present=present)
        if not callable(seen):
            self._possible &= dimension.possible(seen, self._possible)
        elif dimension.tells:
            self._dimensions.append(dimension)

    def match(self, attributes: Mapping[str, Any] | None) -> int:
        """The index in `rules` of the first rule that matches a root span with these attributes; -1 for none.

        Never raises, whatever the attributes hold: those that cannot be read count as missing.
        """
        left = self._possible
        try:
            found = attributes or {}
            for dimension in self._dimensions:
                text = dimension.read(found)
                mask = dimension.known.get(text)
                left &= dimension.possible(text, left) if mask is None else mask
                if not left:
                    return -1
        except Exception:
            return self.match(None) if attributes is not None else -1
        return (left & -left).bit_length() - 1


def _no_text(_attributes: Mapping[str, Any]) -> str | None:
    return None


class _Dimension:
    """One value of a span, and which rules each text of it leaves possible; bit i stands for rule i.

    `present`: even a pattern made of stars needs a value. `tells`: some rule depends on it. `effort`: how many globs
    there are to try. `known`: the masks of texts met before, because most values of a service are few, and None for
    those met only once; bounded, and forgotten when it is full.
    """

    __slots__ = ("_always", "_any", "_exact", "_others", "_prefixes", "_starts", "effort", "known", "read", "tells")

    MOST, LONGEST = 512, 200

    def __init__(self, patterns: Sequence[str | None], read: Read, possible: int, *, present: bool) -> None:
        self.read = read
        self.known: dict[str | None, int | None] = {}
        self._always = self._any = 0
        self._exact: dict[str, int] = {}
        prefixes: dict[str, int] = {}
        others: dict[str, tuple[Glob, int]] = {}
        for index, pattern in enumerate(patterns):
            bit = 1 << index & possible
            glob = Glob(pattern or "")
            if not bit:
                continue
            if pattern is None or (glob.everything and not present):
                self._always |= bit
            elif glob.everything:
                self._any |= bit
            elif glob.exact is not None:
                self._exact[glob.exact] = self._exact.get(glob.exact, 0) | bit
            elif glob.prefix is not None:
                prefixes[glob.prefix] = prefixes.get(glob.prefix, 0) | bit
            else:
                glob, bits = others.get(fold(pattern), (glob, 0))
                others[fold(pattern)] = (glob, bits | bit)
        self._prefixes = tuple(prefixes.items())
        self._starts = tuple(prefixes)
        self._others = tuple((glob.plain, glob.matches_folded, bits) for glob, bits in others.values())
        self.tells = bool(self._any or self._exact or prefixes or others)
        self.effort = len(others)

    def possible(self, text: str | None, wanted: int) -> int:
        """Which of the rules `wanted` are still possible with this value; None is a missing one."""
        if text is None:
            return self._always
        again = text in self.known
        if again:  # a value that comes back is worth the answer for all rules
            wanted = -1
        folded = fold(text)
        mask = self._always | self._any | self._exact.get(folded, 0)
        if folded.startswith(self._starts):
            for prefix, bits in self._prefixes:
                if folded.startswith(prefix):
                    mask |= bits
        for plain, matches, bits in self._others:
            if bits & wanted and plain in folded and matches(folded):
                mask |= bits
        if len(text) <= self.LONGEST:
            if len(self.known) >= self.MOST:
                self.known.clear()
            self.known[text] = mask if again else None
        return mask


def explain(
    rules: Iterable[Rule], resource: Mapping[str, Any], attributes: Mapping[str, Any] | None
) -> list[tuple[Rule, str]]:
    """Every rule in order up to the first that matches, each with why it does not; "" for the one that does."""
    found = attributes or {}
    seen = [(field, name, value(found) if callable(value) else value) for field, name, value in _fields(resource)]
    told: list[tuple[Rule, str]] = []
    for rule in order(rules):
        told.append((rule, _mismatch(rule, seen, found)))
        if not told[-1][1]:
            break
    return told


def _mismatch(rule: Rule, seen: Sequence[tuple[str, str, str | None]], attributes: Mapping[str, Any]) -> str:
    for field, name, value in seen:
        glob = Glob(getattr(rule, name))
        if value is None:
            if not glob.everything:
                return f"{field} {getattr(rule, name)!r} needs a value, and there is none"
        elif not glob.matches(value):
            return f"{field} {getattr(rule, name)!r} does not match {value!r}"
    for key, pattern in rule.attributes.items():
        value = text_of(attributes.get(key))
        if value is None:
            return f"Attributes: {key!r} is not on the span when it starts"
        if not Glob(pattern).matches(value):
            return f"Attributes: {key} {pattern!r} does not match {value!r}"
    return ""
