from __future__ import annotations

import pytest

from spanwell.insights.cardinality import OTHER, Budget, Names
from spanwell.insights.paths import template, template_name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/users/123/orders", "/users/{id}/orders"),
        ("/", "/"),
        ("", "/"),
        ("//users///7//", "/users/{id}"),
        ("/users/123?name=joe&id=9", "/users/{id}"),
        ("/users/123#top", "/users/{id}"),
        ("/users;jsessionid=AB12CD34", "/users"),
        ("/o/7b7d8b9e-4f6f-4d0c-9d5e-0f5a6f5b7c1d", "/o/{id}"),
        ("/o/7B7D8B9E-4F6F-4D0C-9D5E-0F5A6F5B7C1D/x", "/o/{id}/x"),
        ("/blob/0f3a9c1b", "/blob/{id}"),
        ("/blob/deadbeef", "/blob/deadbeef"),  # a word: no digit
        ("/t/1-5759e988-bd862e3fe1be46a994272793", "/t/{id}"),
        ("/reports/2024-01-17", "/reports/{date}"),
        ("/reports/2024-01-17T10:00:00Z", "/reports/{date}"),
        ("/who/joe@example.com/x", "/who/{email}/x"),
        ("/who/joe%40example.com", "/who/{email}"),
        ("/order-12345/lines", "/{id}/lines"),
        ("/watch/dQw4w9WgXcQ", "/watch/{id}"),
        ("/token/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP", "/token/{id}"),
        ("/" + "a" * 40, "/{id}"),
        ("/-12.5/1,000", "/{id}/{id}"),
        ("/api/v1/health", "/api/v1/health"),
        ("/en-US/docs/oauth2", "/en-US/docs/oauth2"),
        ("/static/app.js", "/static/app.js"),
        ("/static/app.3f2a9c1b.js", "/static/app.{id}.js"),
        ("/invoices/1234.pdf", "/invoices/{id}.pdf"),
        ("/users/{id}/x", "/users/{id}/x"),
        ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/*"),
        ("/%D0%BF%D1%80%D0%B8", "/{id}"),
    ],
)
def test_what_varies_is_replaced(path: str, expected: str) -> None:
    assert template(path) == expected


def test_a_name_keeps_its_words() -> None:
    assert template_name("GET /users/123") == "GET /users/{id}"
    assert template_name("nightly report 2024-01-17") == "nightly report {date}"
    assert template_name("Orders.Place") == "Orders.Place"


def test_a_very_long_path_is_cut() -> None:
    assert len(template("/x1/" + "abc/" * 100_000)) < 100


def test_names_beyond_the_limit_are_other() -> None:
    names = Names(2)
    assert [names.bounded(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]
    assert len(names.bounded("x" * 1000)) <= 200
    assert len(names) == 2


def test_the_budget_counts_what_it_refuses() -> None:
    budget = Budget(1)
    assert [budget.take(), budget.take(), budget.take()] == [True, False, False]
    assert (budget.used, budget.refused) == (1, 2)
