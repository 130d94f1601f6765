"""How fast records may go to a stream that throttles: additive increase, multiplicative decrease. Pure.

Kinesis limits records and bytes a second of each shard, and does not say which of the two was met, nor how many
shards a stream has. So the rate is in shards, and what a request costs in shard-seconds (`kinesis_records.cost`).
"""

from __future__ import annotations

from math import inf

LEAST = 0.2
"""Shards: 200 records and 200 kB a second are still tried when other writers use the stream up."""
_FIRST = 0.5
_CUT = 0.7
_GROWTH = 0.2
_AGAIN = 0.5
_FORGET = 60.0
_LONGEST = 2.0


class Pace:
    """Unlimited until the stream throttles. Then 70 % of what it took, growing by a fifth of a shard each second.

    Throttling counts once each half second; 60 s without any, and nothing is limited again. `now` is in seconds, by
    any steady clock. rate: shards; a request should cost no more than a second of it, so that no pause is long.
    """

    def __init__(self) -> None:
        self.rate = inf
        self._next = self._grown = 0.0
        self._cut_at = self._since = -inf
        self._taken = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next request may go, at most 2."""
        return max(0.0, self._next - now) if self.rate < inf else 0.0

    def sent(self, now: float, tried: float, taken: float) -> None:
        """A request of cost `tried` was answered at `now`; the stream took records of cost `taken`."""
        if now - self._since > 1.0:
            self._since, self._taken = now, 0.0
        self._taken += taken
        if taken < tried:
            self._throttled(now)
        elif self.rate < inf:
            self._grow(now)
        self._next = min(max(self._next, now) + taken / self.rate, now + _LONGEST)

    def _throttled(self, now: float) -> None:
        if now - self._cut_at < _AGAIN:
            return
        took = self._taken / max(now - self._since, 1.0)
        known = min(self.rate, took) if took else self.rate
        self.rate = max(LEAST, _CUT * known) if known < inf else _FIRST
        self._cut_at = self._grown = now

    def _grow(self, now: float) -> None:
        if now - self._cut_at > _FORGET:
            self.rate = inf
            return
        self.rate += _GROWTH * max(0.0, now - self._grown)
        self._grown = now
