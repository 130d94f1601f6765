"""Every production of the filter language, and every error with the character it points at."""

from __future__ import annotations

import pytest

from spanwell.explore.filters import FilterError, parse, show
from spanwell.explore.filters.keywords import KEYWORDS, TRACE
from spanwell.explore.filters.nodes import (
    And,
    Annotation,
    CauseJson,
    Compare,
    Edge,
    Has,
    Node,
    Not,
    Or,
    RootCause,
    Service,
    Value,
    Words,
)

FAULT, OK = Has("fault"), Has("ok")


def bare(text: str) -> Value:
    return Value(text, quoted=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fault", FAULT),
        ("  Fault ", FAULT),
        ("!ok", Not(OK)),
        ("!!ok", Not(Not(OK))),
        ("ok = false", Compare("ok", "=", bare("false"))),
        ('ok != "TRUE"', Compare("ok", "!=", bare("true"))),
        ("responseTime>2", Compare("responsetime", ">", bare("2"))),
        ("duration <= 0.5", Compare("duration", "<=", bare("0.5"))),
        ("duration >= 1e3", Compare("duration", ">=", bare("1e3"))),
        ("http.status != 200", Compare("http.status", "!=", bare("200"))),
        ('http.url contains "/v2/"', Compare("http.url", "CONTAINS", Value("/v2/"))),
        ("http.url BEGINSWITH 'http://'", Compare("http.url", "BEGINSWITH", Value("http://"))),
        ('user EndsWith "e"', Compare("user", "ENDSWITH", Value("e"))),
        ('user CONTAINS ""', Compare("user", "CONTAINS", Value(""))),
        ("user = alice", Compare("user", "=", Value("alice"))),
        (r'user = "a\"b\\c\d"', Compare("user", "=", Value('a"b\\c\\d'))),
        ("ok AND fault", And((OK, FAULT))),
        ("ok fault", And((OK, FAULT))),
        ("ok !partial duration <3", And((OK, Not(Has("partial")), Compare("duration", "<", bare("3"))))),
        ("ok OR fault AND error", Or((OK, And((FAULT, Has("error")))))),
        ("(ok or fault) and error", And((Or((OK, FAULT)), Has("error")))),
        ("!(ok OR fault)", Not(Or((OK, FAULT)))),
        ('service("a.b")', Service(Node("a.b"))),
        ("service()", Service(Node())),
        ("service() { fault }", Service(Node(), FAULT)),
        ("service(a){}", Service(Node("a"))),
        ('!service("a")', Not(Service(Node("a")))),
        (
            'service(id(name: "a", type:"AWS::EC2::Instance")) {ok}',
            Service(Node("a", "AWS::EC2::Instance"), OK),
        ),
        ('service(id(type: "remote"))', Service(Node("", "remote"))),
        ('edge("a", b) { error }', Edge(Node("a"), Node("b"), Has("error"))),
        ('edge(id(name: "a", type: "t"), "")', Edge(Node("a", "t"), Node(""))),
        ("annotation.age", Annotation("age")),
        ("annotation.Age > 29", Annotation("Age", ">", bare("29"))),
        ("annotation[age] = 30", Annotation("age", "=", bare("30"))),
        ('annotation["order id"] = "x"', Annotation("order id", "=", Value("x"))),
        ("annotation.flag != true", Annotation("flag", "!=", bare("true"))),
        ("annotation.http.route CONTAINS 12", Annotation("http.route", "CONTAINS", Value("12"))),
        (
            'rootcause.fault.entity { last and name = "x" }',
            RootCause("fault", "entity", And((Has("last"), Compare("name", "=", Value("x"))))),
        ),
        (
            "rootcause.responsetime.entity { remote and coverage > 0.7 }",
            RootCause("responsetime", "entity", And((Has("remote"), Compare("coverage", ">", bare("0.7"))))),
        ),
        ("rootcause.error.exception", RootCause("error", "exception")),
        ("rootcause.fault.service { index > 5 }", RootCause("fault", "service", Compare("index", ">", bare("5")))),
        ('rootcause.json = #[{"Services":[]}]', CauseJson("", '[{"Services": []}]')),
        ('rootcause.fault.json = [{"Services":[]}]', CauseJson("fault", '[{"Services": []}]')),
        ('json(#[{"Services":[{"Name":"a"}]}])', CauseJson("", '[{"Services": [{"Name": "a"}]}]')),
        ("checkout", Words("checkout", quoted=False)),
        ('"card declined"', Words("card declined")),
        ("POST /orders/12", And((Words("POST", quoted=False), Words("/orders/12", quoted=False)))),
        ('service("a") { timeout }', Service(Node("a"), Words("timeout", quoted=False))),
        ("annotation", Words("annotation", quoted=False)),
    ],
)  # fmt: skip
def test_productions(text: str, expected: object) -> None:
    found = parse(text)
    assert found == expected
    assert parse(show(found)) == found


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "expected a keyword, free text, ! or ("),
        ("ok AND", 6, "expected a keyword"),
        ("AND ok", 0, "expected a keyword before AND"),
        ("ok OR OR fault", 6, "expected a keyword before OR"),
        ("ok )", 3, "expected AND, OR or the end, not )"),
        ("(ok", 3, "expected AND, OR or )"),
        ("ok > 1", 3, "ok is a boolean: it takes = !="),
        ("ok = 1", 5, "ok is true or false"),
        ("responsetime > fast", 15, "expected a number of seconds, without a unit, such as 0.5"),
        ("duration > 500ms", 11, "expected a number of seconds, without a unit"),
        ("http.status =", 13, "expected a value"),
        ("http.status CONTAINS 5", 12, "http.status is a number: it takes = !="),
        ('http.url > "a"', 9, "http.url is a string: it takes = != CONTAINS BEGINSWITH ENDSWITH"),
        ('user = "alice', 7, 'the quotation mark " is not closed'),
        ("user = AND ok", 7, "expected a text in quotation marks after user"),
        ("responstime > 5", 0, "unknown keyword responstime; did you mean responsetime?"),
        ("ok AND order.id = 5", 7, "unknown keyword order.id; an attribute is written annotation[order.id]"),
        ('servce("a")', 0, "unknown function servce; did you mean service?"),
        ("f(x)", 0, "unknown function f; there are service(…) and edge(…, …)"),
        ("ok == true", 3, "write = instead of =="),
        ("responsetime => 5", 13, "write >= instead of =>"),
        ("http.status <> 5", 12, "write != instead of <>"),
        ("ok && fault", 3, "write AND instead of &&"),
        ("ok || fault", 3, "write OR instead of ||"),
        ("NOT ok", 0, "write ! instead of NOT"),
        ("service", 7, "expected ( after service"),
        ("service(", 8, "expected the name of a service in quotation marks, or id(name: …, type: …)"),
        ('service("a"', 11, "expected ) after the name of the service"),
        ('service("a") { ok', 17, "expected AND, OR or }"),
        ('service("a") { service("b") }', 15, "service cannot stand in service(…) {…}"),
        ('service("a") { index > 1 }', 15, "index means nothing in service(…) {…}; there are annotation, "),
        ("coverage > 1", 0, "coverage means nothing in the trace; there are "),
        ("rootcause.fault.entity { coverage > 1 }", 25, "coverage means nothing in rootcause….entity {…}"),
        ("rootcause.fault.entity { nam }", 25, "nothing in rootcause….entity {…}; did you mean name?"),
        ("rootcause.fault.entity { annotation.a }", 25, "annotation cannot stand in"),
        ('edge("a")', 8, "expected a comma and the service that is called"),
        ('edge("a", "b"', 13, "expected ) after the two services"),
        ("service(id(nam: a))", 11, "expected name: or type:, each once"),
        ("service(id(name a))", 16, "expected : after name"),
        ("service(id(name: ))", 17, "expected the name in quotation marks"),
        ('service(id(name: "a" "b"))', 21, "expected a comma or )"),
        ("annotation.", 11, "expected the key of the annotation after the point"),
        ("annotation[]", 11, "expected the key of the annotation"),
        ("annotation[a = 1", 13, "expected ] after the key"),
        ('annotation.a > "x"', 15, "expected a number"),
        ("annotation.a =", 14, "expected a value"),
        ("rootcause", 9, "expected fault, error or responsetime after rootcause."),
        ("rootcause.flt.entity", 10, "expected fault, error or responsetime after rootcause.; did you mean fault?"),
        ("rootcause.fault", 15, "expected service, entity, exception or json after rootcause.fault."),
        ("rootcause.fault.entty", 16, "did you mean entity?"),
        ("rootcause.json = #[{", 20, "expected the root causes as JSON"),
        ("rootcause.json = #[1]", 18, "expected a list of objects with Services"),
        ('group.name = "slow"', 0, "group.name: groups exist in X-Ray only; write the group's own expression here"),
        ('""', 0, "expected text between the quotation marks"),
        ("!" * 51 + "ok", 50, "more than 50 levels"),
        ("(" * 51, 50, "more than 50 levels"),
        ("x" * 10_001, 10_000, "at most 10000 characters"),
    ],
)  # fmt: skip
def test_errors_point_at_the_character(text: str, position: int, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.position == position
    assert says in caught.value.message


def test_an_error_as_text() -> None:
    with pytest.raises(FilterError) as caught:
        parse('user = "日本" responstime > 5')
    # The two wide characters take two columns each.
    assert str(caught.value).split("\n") == [
        "unknown keyword responstime; did you mean responsetime?",
        '  user = "日本" responstime > 5',
        "                " + "^",
    ]


def test_a_long_expression_is_cut_around_the_place() -> None:
    with pytest.raises(FilterError) as caught:
        parse("ok AND " * 100 + "responstime > 5 AND " + "ok AND " * 100 + "ok")
    _, shown, caret = str(caught.value).split("\n")
    assert len(shown) < 130
    assert shown[len(caret) - 1 :].startswith("responstime")
    assert shown.strip()[0] == shown[-1] == "…"


@pytest.mark.parametrize("keyword", [name for name, keyword in KEYWORDS.items() if TRACE in keyword.places])
def test_every_keyword_stands_alone_and_compares(keyword: str) -> None:
    kind = KEYWORDS[keyword].kind
    assert parse(keyword.upper()) == Has(keyword)
    value = {"boolean": "true", "number": "5", "string": '"x"'}[kind]
    assert isinstance(parse(f"{keyword}={value}"), Compare)
