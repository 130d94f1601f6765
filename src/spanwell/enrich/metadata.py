"""GET a small document from a metadata service: no proxy, no DNS, no redirect, a hard limit on time, size."""

from __future__ import annotations

import json

from spanwell import exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # (method, url, headers, seconds in all, CA file for https or "") -> body; OSError or ValueError if none.
    Fetch = Callable[[str, str, Mapping[str, str], float, str], bytes]

MAX_BYTES = 256 * 1024


def fetch(
    method: str,
    url: str,
    headers: Mapping[str, str],
    seconds: float,
    cafile: str = "",
    max_bytes: int = MAX_BYTES,
) -> bytes:
    """The body of a 200 answer to a bodiless request, within `seconds` for everything together.

    The host is an IP address or `localhost`: resolving a name could outlast any limit. Raises OSError
    (refused, too late, cut short, another status than 200) or ValueError (a bad URL, no HTTP, more than `max_bytes`).
    """
    answer = exchange.send(
        method, url, headers=headers, seconds=seconds, max_bytes=max_bytes, cafile=cafile, resolve=False
    )
    if answer.status != 200:
        raise OSError(f"status {answer.status}")
    return answer.body


class Budget:
    """Requests that share one time limit; a failure is kept as a sentence in `problems`, never raised."""

    def __init__(self, seconds: float, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._deadline = clock() + seconds
        self._fetch = fetch
        self._clock = clock
        self.problems: list[str] = []

    def text(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, cafile: str = ""
    ) -> str:
        """The body as text, or "" when it could not be had in the time that is left."""
        left = self._deadline - self._clock()
        if left <= 0:
            self.problems.append(f"{url}: no time left")
            return ""
        try:
            return self._fetch(method, url, headers or {}, left, cafile).decode("utf-8")
        except (OSError, ValueError) as error:
            self.problems.append(f"{url}: {type(error).__name__}: {error}")
            return ""

    def document(self, url: str, *, headers: Mapping[str, str] | None = None, cafile: str = "") -> dict[str, object]:
        """The body as a JSON object, or {} when there is none."""
        body = self.text(url, headers=headers, cafile=cafile)
        if not body:
            return {}
        found = json_object(body)
        if not found:
            self.problems.append(f"{url}: no JSON object")
        return found


def json_object(text: str) -> dict[str, object]:
    """`text` as a JSON object; {} for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
