"""How many label sets there may be: names first come, first served, and a budget of series for the process."""

from __future__ import annotations

import threading

from spanwell.analysis.names import MAX_NAMES, MAX_SERIES

OTHER = "other"
_MAX_TEXT = 200


class Names:
    """At most `limit` different values of one label; the rest is `other`. Safe in threads."""

    def __init__(self, limit: int = MAX_NAMES) -> None:
        self._limit = limit
        self._known: set[str] = set()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._known)

    def bounded(self, name: str) -> str:
        """`name`, of at most 200 characters, or `other`."""
        name = name[:_MAX_TEXT]
        known = self._known
        if name in known:
            return name
        with self._lock:
            if len(known) >= self._limit and name not in known:
                return OTHER
            known.add(name)
        return name

    def after_fork(self) -> None:
        """In the child: the lock may be held by a thread that is gone."""
        self._lock = threading.RLock()


class Budget:
    """`limit` series for everything in this process. `refused` tells how often one more was wanted."""

    def __init__(self, limit: int = MAX_SERIES) -> None:
        self.limit = limit
        self.used = 0
        self.refused = 0

    def take(self) -> bool:
        """Whether there is room for one more series, which is then counted. The caller has a lock."""
        if self.used >= self.limit:
            self.refused += 1
            return False
        self.used += 1
        return True
