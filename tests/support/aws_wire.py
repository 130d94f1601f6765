"""AWS calls as they would go over the wire: botocore does everything but connect."""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import parse_qsl

from botocore.awsrequest import AWSResponse

_EMPTY = {
    "sns": b"<R><PublishResult/><PublishBatchResult/><ResponseMetadata/></R>",
}


class _Raw(io.BytesIO):
    def stream(self, *args: Any, **kwargs: Any) -> Any:
        yield self.read()


class Wire:
    """Answers every request of `client` and keeps it: `requests` are botocore's prepared ones."""

    def __init__(self, client: Any, answer: bytes | None = None) -> None:
        service = client.meta.service_model.service_name
        self._answer = answer if answer is not None else _EMPTY.get(service, b"{}")
        self.requests: list[Any] = []
        client.meta.events.register("before-send.*.*", self._send)

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        self.requests.append(request)
        return AWSResponse(request.url, 200, {}, _Raw(self._answer))

    def body(self) -> bytes:
        """The last request's."""
        body = self.requests[-1].body
        return body if isinstance(body, bytes) else (body or "").encode()

    def json(self) -> Any:
        return json.loads(self.body())

    def form(self) -> dict[str, str]:
        """The fields of the last request, of a service that takes a form."""
        return dict(parse_qsl(self.body().decode(), keep_blank_values=True))

    def header(self, name: str) -> str | None:
        """A header of the last request; fails if it stands there twice."""
        found = [value for key, value in self.requests[-1].headers.items() if key.lower() == name.lower()]
        assert len(found) < 2
        value = found[0] if found else None
        return value.decode() if isinstance(value, bytes) else value
