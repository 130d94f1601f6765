"""Redaction never raises, is done once, ends on any text, and the cheap tests before the rules miss nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwell.enrich import secret_names, secret_texts, secret_values
from spanwell.enrich.redaction import Redaction, suspicious
from spanwell.enrich.secret_names import MARK
from support.spans import make_span

PIECES = [
    *("password", "token", "secret", "api_key", "sig", "code", "key", "authorization", "cookie", "name", "x"),
    *(
        "=",
        ":",
        "%3D",
        "%3A",
        "&",
        "?",
        "#",
        ",",
        ";",
        " ",
        "\n",
        '"',
        "'",
        '\\"',
        "\\",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
    ),
    *("://", "/", "@", "%40", "%2F", "%3A%2F%2F", ".", "-", "_", "bob", "example.com", "hunter2", "1.2", "b'"),
    *(
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9",
        ".eyJzdWIiOiIxIn0.abc",
        "Bearer ",
        "Basic ",
        "Ym9iOmh1bnRlcjI=",
    ),
    *("4111", "1111", "411111111111", "4111111111111111", "%20", "+", "-----BEGIN PRIVATE KEY-----"),
    *(
        "-----END PRIVATE KEY-----",
        MARK,
        "[redacted",
        "SELECT ",
        "VALUES (",
        "[SQL: ",
        "[parameters: ",
        "--",
        "AUTH ",
    ),
    *("é", "\ud800", "\x00", "ghp_16C7e42F292c6912E7710c838347", "identified by ", "requirepass ", "…"),
]
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.text(max_size=80))


@settings(max_examples=400, deadline=None)
@given(texts, st.booleans(), st.booleans())
def test_twice_is_once(text, personal, statement):
    once = secret_texts.redact(text, personal=personal, statement=statement)
    assert secret_texts.redact(once, personal=personal, statement=statement) == once


@settings(max_examples=400, deadline=None)
@given(texts, st.booleans())
def test_what_the_cheap_tests_pass_has_nothing_for_the_rules(text, statement):
    if not suspicious(text, statement=statement):
        assert secret_texts.redact(text, statement=statement) == text


@settings(max_examples=400, deadline=None)
@given(texts)
def test_a_text_looked_at_again_gives_the_same(text):
    redaction = Redaction()
    first = redaction.text(text)
    assert redaction.text(text) == first
    assert redaction.text(first) == first
    if first == text:
        assert first is text


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=8, max_size=40),
    st.sampled_from(['{{"password": "{}"}}', "password={}&x", "?token={} ", "https://u:{}@h/p", "cookie: {}\nx"]),
    texts,
    texts,
)
def test_a_planted_secret_is_never_left(secret, form, before, after):
    secret = f"Zq9{secret}"
    found = Redaction().text(f"{form.format(secret)}\n{after}")
    assert secret not in found or secret in after
    # What stands before may open a quote or a query of its own, which only makes the redacted part longer.
    found = Redaction().text(f"{before}\n{form.format(secret)}")
    assert secret not in found or secret in before


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=40)),
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.one_of(texts, st.sampled_from(["url.full", "db.query.text", "user.id"])), values, max_size=6)
)
def test_any_attributes_keep_their_form_and_the_caller_keeps_them(attributes):
    before = repr(attributes)
    redaction = Redaction()
    redacted = redaction.attributes(attributes)
    assert repr(attributes) == before
    assert list(redacted) == list(attributes)
    assert repr(redaction.attributes(redacted)) == repr(redacted)
    redaction.on_end(make_span(name="n", attributes=attributes))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="/abcdefghij _-<>!", max_size=60))
def test_plain_words_and_paths_stay(text):
    assert secret_texts.redact(text, statement=True) == text


ADVERSARIAL = [
    *(
        "a",
        "=",
        "a=",
        "password=",
        'password="',
        "password=\\",
        'password=\\"',
        "password=[",
        "password={",
        "password('",
    ),
    *(
        "token:",
        "cookie: ",
        "&sig=",
        "%3D",
        "\\",
        '"',
        "'",
        "\\'",
        "'\\",
        "1",
        "1 ",
        "4111 ",
        "41-",
        "1%20",
        "0.4111",
    ),
    *("@", "a@", "@a.", "@a.b", "a.b@a.b.", "%40", "a%40a.", "://", "://a:", "://a:b/c", "%3A%2F%2Fa%3A", ":b/c@"),
    *("eyJ", "_eyJ", "eyJ.", "AKIA", "AKIAAAAAAAAAAAAAAAA", "gh", "ghp_", "xox", "bearer ", "Basic aaaa", "basic%20"),
    *(
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END ",
        "[SQL: ",
        "[parameters: ",
        "values ",
        "('password',",
    ),
    *(
        "identified by ",
        "identified        ",
        "auth ",
        "requirepass ",
        "--",
        '"\'"',
        "password ",
        " ",
        "\n",
        "é",
        "a.",
        "a-",
    ),
]


@pytest.mark.parametrize("piece", ADVERSARIAL, ids=range(len(ADVERSARIAL)))
def test_100_kilobytes_made_to_be_slow_come_to_an_end(piece):
    """No clock here: a rule that is not linear takes minutes on these, which the suite's timeout ends."""
    text = piece * (100_000 // len(piece))
    for end in ("password", "token='x@example.com"):
        secret_texts.redact(text + end)
        secret_texts.redact(f"password [SQL: {text}{end}", statement=True)


def test_each_repeat_in_a_rule_is_bounded_or_walks_a_text_once():
    """Steps are counted, not seconds: the walk from name to name looks at no character of a value twice."""
    looked_at = 0

    class Counted(str):
        __slots__ = ()

        def find(self, *arguments):
            nonlocal looked_at
            found = str.find(self, *arguments)
            stop = len(self) if found < 0 else found
            looked_at += max(0, min(stop, arguments[2] if len(arguments) > 2 else stop) - arguments[1])
            return found

    for piece in ('password="', "password=\\", "password=[", "cookie: ", "password='x\n"):
        text = Counted(piece * 2000)
        looked_at = 0
        secret_values.assignments(text)
        assert looked_at <= 4 * len(text)


def test_every_name_passes_the_cheap_test():
    names = [
        *secret_names._ENDINGS,
        *secret_names._WHOLE_NAMES,
        *secret_names._ASSIGNED,
        *secret_names._ASSIGNED_ENDINGS,
        *secret_names._SHORTEST_IN_QUERY,
    ]
    assert [name for name in names if not secret_names.has_stem(name)] == []
    assert all(name == secret_names.normal(name) for name in names)
