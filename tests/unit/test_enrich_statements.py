"""Statements by their summary: the table of SQL, Redis and memcached commands, and which names are replaced."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind

from spanwell.enrich.ended import Ended
from spanwell.enrich.parts import parts
from spanwell.enrich.sql_summary import summarize
from spanwell.enrich.statements import commands
from support.spans import make_span

SQL = [
    ("SELECT * FROM orders WHERE id = 7", "SELECT orders"),
    ("select a, b from s.t", "SELECT s.t"),
    ("SELECT 1", "SELECT"),
    ("SELECT count(*) FROM orders", "SELECT orders"),
    ("SELECT * FROM a, b x, c AS y WHERE a.id = b.id", "SELECT a b c"),
    ("SELECT * FROM (SELECT a FROM t) x, u", "SELECT SELECT t u"),
    ("SELECT * FROM (a JOIN b ON 1)", "SELECT a b"),
    ("SELECT a FROM t UNION ALL SELECT b FROM u", "SELECT t SELECT u"),
    ("SELECT * FROM t WHERE a = %(name)s AND b IN (SELECT id FROM u)", "SELECT t SELECT u"),
    ("SELECT * FROM t FOR UPDATE", "SELECT t"),
    ("SELECT extract(year from d) FROM t", "SELECT t"),
    ("SELECT a IS DISTINCT FROM b FROM t", "SELECT t"),
    ("SELECT replace(a, 'x', 'y') FROM t", "SELECT t"),
    ("SELECT TOP 5 [a b] FROM [dbo].[Order Details]", "SELECT dbo.Order Details"),
    ('SELECT * FROM "s"."t"', "SELECT s.t"),
    ("SELECT * FROM `s`.`t`", "SELECT s.t"),
    ("/* c */ SELECT * FROM t -- FROM x\nWHERE 1", "SELECT t"),
    ("SELECT * FROM generate_series(1, 2) g", "SELECT generate_series"),
    ("INSERT INTO orders (a, b) VALUES (1, 'FROM x')", "INSERT orders"),
    ("INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1", "INSERT t"),
    ("INSERT INTO carts SELECT * FROM orders o JOIN lines l ON o.id = l.id", "INSERT carts SELECT orders lines"),
    ("REPLACE INTO t VALUES (1)", "REPLACE t"),
    ("UPDATE t SET a = 1", "UPDATE t"),
    ("UPDATE a, b SET x = 1", "UPDATE a b"),
    ("DELETE FROM t USING u WHERE 1", "DELETE t u"),
    ("MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN UPDATE SET y = 1", "MERGE a b"),
    ("WITH x AS (SELECT a FROM t), y(n) AS (DELETE FROM q RETURNING *) SELECT * FROM x JOIN z ON 1 = 1",
     "SELECT t DELETE q SELECT z"),
    ("CREATE TABLE IF NOT EXISTS foo (id int)", "CREATE TABLE foo"),
    ("CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX i"),
    ("CREATE TABLE x AS SELECT * FROM y", "CREATE TABLE x SELECT y"),
    ("ALTER USER bob IDENTIFIED BY 'pw'", "ALTER USER"),
    ("DROP TABLE a; SELECT * FROM b", "DROP TABLE a SELECT b"),
    ("TRUNCATE TABLE a", "TRUNCATE a"),
    ("CALL do_it('x')", "CALL do_it"),
    ("COPY t FROM STDIN", "COPY t"),
    ("EXPLAIN ANALYZE SELECT * FROM t", "EXPLAIN SELECT t"),
    ("BEGIN", "BEGIN"),
    ("SET password = 'x'", "SET"),
    ("PRAGMA table_info(x)", "PRAGMA"),
    ("SELECT q'[it's FROM x]' FROM t", "SELECT"),
    ("UPDATE t SET a = 'it\\'s FROM x'", "UPDATE t"),
    ("nonsense 'x'", ""),
    ("", ""),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "summary"), SQL, ids=[row[0][:40] for row in SQL])
def test_sql(statement, summary):
    assert summarize(statement) == summary


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("GET ?", "GET"),
        ("SET ? ?\nGET ?\nGET ?", "SET GET"),
        ("CONFIG GET ?", "CONFIG GET"),
        ("GET customer:7", "GET"),
        ("get customer:7", "get"),
        ("JSON.GET ?", "JSON.GET"),
        ("customer:7", ""),
        ("", ""),
    ],
)
def test_commands_of_caches(text, summary):
    assert commands(text) == summary


def ended(name, attributes):
    span = make_span(name=name, kind=SpanKind.CLIENT, attributes=attributes)
    Ended(parts()).on_end(span)
    return span.name, span.attributes.get("db.query.summary")


QUERY = "SELECT * FROM orders WHERE mail = 'a@b.c'"


@pytest.mark.parametrize("name", ["SELECT", "select", "", "shop", "SELECT shop", "CURSOR: SELECT", QUERY, QUERY[:30]])
@pytest.mark.parametrize("new", [True, False], ids=["new", "old"])
def test_a_name_that_says_nothing_or_too_much_is_replaced(name, new):
    own = (
        {"db.system.name": "postgresql", "db.namespace": "shop", "db.query.text": QUERY}
        if new
        else {"db.system": "postgresql", "db.name": "shop", "db.statement": QUERY}
    )
    assert ended(name, own) == ("SELECT orders", "SELECT orders")


def test_a_chosen_name_and_a_chosen_summary_stay():
    assert ended("load the orders", {"db.query.text": QUERY}) == ("load the orders", "SELECT orders")
    own = {"db.query.text": QUERY, "db.query.summary": "mine"}
    assert ended("load the orders", own) == ("load the orders", "mine")


def test_raw_text_of_an_unknown_language_leaves_the_name():
    assert ended("nonsense 'x'", {"db.system.name": "other_sql", "db.query.text": "nonsense 'x'"}) == (
        "other_sql",
        None,
    )


def test_redis():
    redis = {"db.system": "redis"}
    assert ended("GET", {**redis, "db.statement": "GET ?"}) == ("GET", "GET")
    assert ended("GET key:7", {**redis, "db.statement": "GET key:7"}) == ("GET", "GET")
    assert ended("GET GET GET", {**redis, "db.statement": "GET ?\nGET ?\nGET ?"}) == ("GET", "GET")
    assert ended("redis.search", {**redis, "db.statement": "FT.SEARCH ?"}) == ("redis.search", "FT.SEARCH")


def test_mongodb_has_its_collection():
    own = {"db.system.name": "mongodb", "db.query.text": "find {'mail': 'a@b.c'}", "db.collection.name": "orders"}
    assert ended("shop.find", own) == ("shop.find", "find orders")


def test_other_languages_are_left_alone():
    assert ended("search", {"db.system": "elasticsearch", "db.statement": "SELECT"}) == ("search", None)


def test_the_memory_is_bounded():
    from spanwell.enrich.statements import Statements

    part = Statements()
    for number in range(3000):
        own = {"db.query.text": f"SELECT {number} FROM t"}
        part(make_span(attributes=own), own)
    assert len(part._known) <= 1024
