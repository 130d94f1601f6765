"""What the keywords of the language stand for: values of a subject's spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.analysis.calls import error_type, first
from spanwell.analysis.calls import status_of as http_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from spanwell.explore.filters.subjects import Subject
    from spanwell.record import SpanRecord

RESOURCE_PREFIX = "otel.resource."
_ARN = "arn:"
_REQUEST = {
    "http.method": ("http.request.method", "http.method"),
    "http.useragent": ("user_agent.original", "http.user_agent"),
    "http.clientip": ("client.address", "http.client_ip"),
}
_USER = ("enduser.id", "user.id")
_RESOURCE = {"availabilityzone": "cloud.availability_zone", "instance.id": "host.id"}


def texts(subject: Subject, keyword: str) -> Iterator[str]:
    """The values of a string keyword; those of `name` and `type` are the node's."""
    if keyword.startswith("http."):
        told = subject.entry.attributes if subject.entry is not None else {}
        yield from filter(None, (url(told) if keyword == "http.url" else first(told, *_REQUEST[keyword]),))
    elif keyword == "name":
        yield from subject.names
    elif keyword == "type":
        yield from subject.types
    elif keyword == "user":
        yield from (found for span in subject.spans for found in _strings(span.attributes, _USER))
    elif keyword == "message":
        yield from (message for span in subject.spans for _, message in exceptions(span) if message)
    elif keyword == "resource.arn":
        yield from arns(subject)
    else:
        for resource in resources(subject):
            yield from _strings(resource, (_RESOURCE[keyword],))


def status(subject: Subject) -> int | None:
    """The HTTP status of the answer; None without one between 100 and 599."""
    found = http_status(subject.entry.attributes) if subject.entry is not None else 0
    return found if 100 <= found <= 599 else None


def url(told: Mapping[str, Any]) -> str:
    """The URL of a request, put together from its parts where it is not told as a whole; "" if there is none."""
    whole = first(told, "url.full", "http.url")
    if whole:
        return whole
    path = first(told, "url.path", "http.target")
    query = first(told, "url.query")
    if query and "?" not in path:
        path = f"{path}?{query}"
    host = first(told, "server.address", "http.host", "net.host.name")
    scheme = first(told, "url.scheme", "http.scheme")
    if not (host and scheme):
        return path
    port = told.get("server.port", told.get("net.host.port"))
    usual = port.__class__ is not int or (scheme, port) in (("http", 80), ("https", 443)) or ":" in host
    slash = "" if not path or path.startswith("/") else "/"
    return f"{scheme}://{host}{'' if usual else f':{port}'}{slash}{path}"


def exceptions(span: SpanRecord) -> Iterator[tuple[str, str]]:
    """(type, message) of what a span recorded as exceptions; of an error without one what else it tells."""
    found = False
    for event in span.events:
        if event.name == "exception":
            found = True
            yield first(event.attributes, "exception.type"), first(event.attributes, "exception.message")
    if span.is_error and not found:
        yield error_type(span), span.status_message


def annotation(subject: Subject, key: str) -> Iterator[Any]:
    """The values of the attribute `key`, items of lists one by one. `order_id` also finds `order.id` and `order-id`,
    as X-Ray knows it; `otel.resource.` before a key asks the resource."""
    if key.startswith(RESOURCE_PREFIX):
        wanted = key.removeprefix(RESOURCE_PREFIX)
        for resource in resources(subject):
            yield from _found(resource, wanted)
    else:
        for span in subject.spans:
            yield from _found(span.attributes, key)


def _found(told: Mapping[str, Any], key: str) -> Iterator[Any]:
    names = [key] if key in told else []
    if "_" in key:
        names += [name for name in told if name != key and len(name) == len(key) and folded(name) == key]
    for name in names:
        value = told[name]
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


_FOLDED = str.maketrans(dict.fromkeys(".-/: @+#=&%~", "_"))


def folded(name: str) -> str:
    """`name` with `_` for the signs that the keys of annotations may not have."""
    return name.translate(_FOLDED)


def resources(subject: Subject) -> list[Mapping[str, Any]]:
    """The different resources of the spans."""
    return list({id(span.resource): span.resource for span in subject.spans}.values())


def arns(subject: Subject) -> Iterator[str]:
    """Every ARN that is a value of a resource or of a span."""
    for told in (*resources(subject), *(span.attributes for span in subject.spans)):
        for value in told.values():
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(item, str) and item.startswith(_ARN):
                    yield item


def searched(span: SpanRecord) -> Iterator[str]:
    """The texts of a span that free text is looked for in."""
    yield span.name
    yield span.service
    yield span.status_message
    yield from scalars(span.attributes)
    for event in span.events:
        yield event.name
        yield from scalars(event.attributes)


def scalars(told: Mapping[str, Any]) -> Iterator[str]:
    """Text, numbers and truth values of attributes and of lists in them, as JSON writes them."""
    for value in told.values():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, str):
                yield item
            elif isinstance(item, bool):
                yield "true" if item else "false"
            elif isinstance(item, (int, float)):
                yield repr(item)


def _strings(told: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = told.get(name)
        if isinstance(value, str) and value:
            yield value
