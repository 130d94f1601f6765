"""A detector of your own: orders of many items, which the bulk API would take at once."""

from __future__ import annotations

from collections.abc import Iterator

from spanwell.insights.model import INFO, Fragment, Insight

MANY = 100


def big_order(fragment: Fragment) -> Iterator[Insight]:
    """One insight for each span that ordered more than `MANY` items."""
    for span in fragment.spans:
        items = span.attributes.get("shop.items", 0)
        if items > MANY:
            yield Insight(
                type="big_order",
                severity=INFO,
                sentence=f"{fragment.operation} ordered {items} items: offer the bulk API to this customer.",
                subject=(fragment.operation,),
                evidence=(span.span_id,),
                values={"items": items},
            )
