"""A checkout with spans of its own: what a business calls its steps, with the plain OpenTelemetry API.

Run it with `spanwell run -- python checkout.py`, then look with `spanwell traces`. Without spanwell, or without any
OpenTelemetry SDK, it runs just the same: the API does nothing then.
"""

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

import spanwell

tracer = trace.get_tracer("checkout")


class OutOfStock(Exception):
    """The stock does not hold that many."""


STOCK = {"tea": 3, "cup": 0}


@tracer.start_as_current_span("price cart")
def price(cart: dict[str, int]) -> int:
    """What the cart costs, in cents."""
    cents = sum(1250 * number for number in cart.values())
    trace.get_current_span().set_attribute("app.cart.total", cents)
    return cents


def reserve(cart: dict[str, int]) -> None:
    """Take the goods out of the stock."""
    with tracer.start_as_current_span("reserve stock") as span:
        for article, number in cart.items():
            span.set_attribute(f"app.stock.{article}", STOCK[article])
            if STOCK[article] < number:
                raise OutOfStock(article)  # leaving the block marks the span as failed and records the exception


def checkout(order: str, tier: str, cart: dict[str, int]) -> bool:
    """Price, reserve, and say whether it worked."""
    with tracer.start_as_current_span("checkout") as span:
        # Indexed: X-Ray finds it with annotation.order_id = "…", `spanwell traces` with a filter.
        spanwell.annotate("order_id", order)
        spanwell.annotate("customer_tier", tier)
        try:
            price(cart)
            reserve(cart)
        except OutOfStock as missing:
            # Expected, and the customer was told: the checkout itself tells why.
            span.set_status(Status(StatusCode.ERROR, f"out of stock: {missing}"))
            return False
        return True


if __name__ == "__main__":
    print("A-1", checkout("A-1", "gold", {"tea": 2}))
    print("A-2", checkout("A-2", "new", {"tea": 1, "cup": 1}))
