"""The `X-Amzn-Trace-Id` header of a call to AWS: the client span as parent, whatever else it said kept.

Inside Lambda botocore fills the header from the environment, with the function's own segment as parent, and the
instrumentor leaves a header that is there alone. Its other fields have to survive: without `Lineage` Lambda does not
see that functions call each other in a circle.
"""

from __future__ import annotations

from spanwell.propagation.process import current_header
from spanwell.propagation.sending import propagated
from spanwell.propagation.xray import HEADER, LONGEST_HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_ENVIRONMENT = "_X_AMZN_TRACE_ID"
_NAME = HEADER.lower()
_OURS = ("root", "parent", "sampled", "self", "")


def write(headers: Any, environ: Mapping[str, str]) -> None:
    """Let `headers`, botocore's own of one request, name the current span.

    They stay as they are without a span, where OTEL_PROPAGATORS does not name `xray`, and where the application put a
    header of its own there.
    """
    if HEADER not in propagated():
        return
    names = [name for name in headers if name.lower() == _NAME] if len(headers) else ()
    before = headers[names[0]] if names else ""
    if before and not _from_environment(before, environ):
        return
    text = current_header()
    if text is None:
        return
    for name in names:
        del headers[name]
    headers[HEADER] = _with_rest(text, before) if before else text


def _from_environment(text: object, environ: Mapping[str, str]) -> bool:
    """Whether `text` is what botocore made of the environment (it quotes)."""
    came = environ.get(_ENVIRONMENT)
    if not came or not isinstance(text, str):
        return False
    if text == came:
        return True
    from urllib.parse import unquote

    return unquote(text) == unquote(came)


def _with_rest(text: str, before: str) -> str:
    """`text` with the fields of `before` that it does not say anything about."""
    if len(before) > LONGEST_HEADER:
        before = before[:LONGEST_HEADER].rpartition(";")[0]
    for field in before.split(";"):
        name = field.partition("=")[0].strip().lower()
        if name not in _OURS and not (name == "lineage" and ";Lineage=" in text):
            text += f";{field.strip()}"
    return text
