"""X-Ray's filter expressions over traces: `parse` reads one, `matches` asks it of a trace, `bounds` tells a store
which traces are worth loading. Pure.
"""

from __future__ import annotations

from spanwell.explore.filters.doubts import doubts
from spanwell.explore.filters.errors import FilterError
from spanwell.explore.filters.matching import matches
from spanwell.explore.filters.nodes import show
from spanwell.explore.filters.parser import parse
from spanwell.explore.filters.pushdown import bounds

__all__ = ["FilterError", "bounds", "doubts", "matches", "parse", "show"]
