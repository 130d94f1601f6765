"""The text of an `X-Amzn-Trace-Id` header, read and written. Pure, and imports nothing: that a Lambda invocation is
not sampled is told without OpenTelemetry.

It reads what AWS sends: `Root=1-…;Parent=…;Sampled=0|1|?;Lineage=…;Self=…`, any key missing but Root, in any order
and case, with spaces, a trailing `;` and keys it does not know. What it cannot read it leaves out; a header without
a readable Root is no header.
"""

from __future__ import annotations

# A full header has about 140 characters: what stands behind 4096 is noise or an attack.
LONGEST_HEADER = 4096
LONGEST_LINEAGE = 512
_LOW_96 = (1 << 96) - 1
_LOW_64 = (1 << 64) - 1


class TraceHeader:
    """The fields of one header. root: trace id, not 0; parent: span id or 0; sampled: "0", "1", "?" or ""
    (absent); lineage: text or ""."""

    __slots__ = ("lineage", "parent", "root", "sampled")

    def __init__(self, root: int, parent: int = 0, sampled: str = "", lineage: str = "") -> None:
        self.root = root
        self.parent = parent
        self.sampled = sampled
        self.lineage = lineage

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TraceHeader) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"TraceHeader({format_header(self)!r})"

    def _key(self) -> tuple[int, int, str, str]:
        return self.root, self.parent, self.sampled, self.lineage


def parse(header: str) -> TraceHeader | None:
    """Read a header; None without a valid Root. Never raises; looks at the first 4096 characters only.

    Of a key that comes twice the first readable value counts.
    """
    return _usual(header) or _scan(header)


def _usual(header: str) -> TraceHeader | None:
    """What nearly every client writes, `Root=1-8-24;Parent=16;Sampled=0|1`, read in place: twice as fast."""
    if (
        len(header) != 74
        or header[:7] != "Root=1-"
        or header[40:48] != ";Parent="
        or header[64:73] != ";Sampled="
        or header[15] != "-"
        or header[73] not in "01"
    ):
        return None
    both = hexadecimal(header[7:15] + header[16:40] + header[48:64], 24)
    root, parent = both >> 64, both & _LOW_64
    return TraceHeader(root, parent, header[73]) if root and parent else None


def _scan(header: str) -> TraceHeader | None:
    if len(header) > LONGEST_HEADER:
        header = header[:LONGEST_HEADER].rpartition(";")[0]  # not half a field
    root = parent = 0
    sampled = lineage = ""
    for field in header.split(";"):
        key, _, value = field.partition("=")
        key = key.strip().lower()
        value = value.strip()
        if key == "root":
            root = root or _trace_id(value)
        elif key == "parent":
            parent = parent or (hexadecimal(value, 8) if len(value) == 16 else 0)
        elif key == "sampled":
            sampled = sampled or (value if value in ("0", "1", "?") else "")
        elif key == "lineage":
            lineage = lineage or _lineage(value)
    return TraceHeader(root, parent, sampled, lineage) if root else None


def format_header(header: TraceHeader) -> str:
    """The header's text; fields that are 0 or "" are left out."""
    text = format_root(header.root)
    if header.parent:
        text += f";Parent={header.parent:016x}"
    if header.sampled:
        text += f";Sampled={header.sampled}"
    if header.lineage:
        text += f";Lineage={header.lineage}"
    return text


def format_root(trace_id: int) -> str:
    """`Root=1-<8 hex digits>-<24 hex digits>`."""
    return f"Root=1-{trace_id >> 96:08x}-{trace_id & _LOW_96:024x}"


def _trace_id(value: str) -> int:
    if len(value) != 35 or value[:2] != "1-" or value[10] != "-":
        return 0
    return hexadecimal(value[2:10] + value[11:], 16)


def hexadecimal(digits: str, size: int) -> int:
    """The number that `digits`, two for each of `size` bytes, stand for; 0 for anything else."""
    # Not int(digits, 16): that takes "0x", "_", "+", spaces and non-ASCII digits. fromhex skips spaces only,
    # and then the size gives it away.
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        return 0
    return int.from_bytes(found, "big") if len(found) == size else 0


def _lineage(value: str) -> str:
    # It is sent on in our own requests, so nothing that could end a header line gets through.
    if len(value) <= LONGEST_LINEAGE and value.isascii() and value.isprintable() and " " not in value:
        return value
    return ""
