"""What goes into the layer's zips: slimmed sources, rules by names, the same bytes each time."""

from __future__ import annotations

import ast
import importlib.util
import marshal
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"layer_{name}", ROOT / "lambda_layer" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


slim, contents, zips = load("slim"), load("contents"), load("zips")


# --- slim sources -------------------------------------------------------------------------------------------------

SOURCE = '''"""Module.

Two paragraphs.
"""
# a comment
import os  # why

NAME = "#no comment"
"""What NAME is."""

def f(a, b: int = 1):  # äöü
    """One line."""
    # inside
    return """not a
    docstring   # kept"""

class Empty(Exception):
    """Only this."""

async def nothing():
    """Lines
    of text."""
'''


def test_comments_and_docstrings_go_and_lines_stay():
    slimmed = slim.slim(SOURCE.encode()).decode()
    assert slimmed.count("\n") == SOURCE.count("\n")
    for text in ("Module", "comment\n", "why", "What NAME", "One line", "inside", "Only this", "of text", "ä"):
        assert text not in slimmed
    assert '"#no comment"' in slimmed
    assert "docstring   # kept" in slimmed
    lines = slimmed.split("\n")
    assert lines[SOURCE.split("\n").index('    """Only this."""')] == "    pass"
    before, after = {}, {}
    exec(SOURCE, before)
    exec(slimmed, after)
    assert after["f"](1) == before["f"](1)
    assert after["f"].__doc__ is None
    assert after["f"].__code__.co_firstlineno == before["f"].__code__.co_firstlineno


@pytest.mark.parametrize(
    "source",
    [
        "x = '''trailing   \n space'''\n# a\n",  # blanks at the end of a line of a text are part of it
        "def f(): 'doc'; return 1  # a statement behind it\n",
        "# -*- coding: latin-1 -*-\n'''doc'''\n",  # the comment says how the rest is to be read
    ],
)
def test_a_file_that_cannot_lose_its_comments_safely_stays_as_it_is(source):
    assert slim.slim(source.encode()) == source.encode()


def test_every_source_of_ours_is_the_same_program_when_slim():
    for path in sorted((ROOT / "src" / "spanwell" / "propagation").glob("*.py")):
        source = path.read_bytes()
        slimmed = slim.slim(source)
        assert len(slimmed) < len(source) or not source, path
        assert len(ast.parse(slimmed).body) <= len(ast.parse(source).body)
        assert slim._same(source, slimmed), path


def test_bytecode_is_never_checked_against_a_file_and_names_the_place_in_lambda():
    data = slim.compiled(b"def f(a: int) -> str: return a\n", "/opt/python/spanwell/x.py")
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == 0b01
    assert data[8:16] == importlib.util.source_hash(b"def f(a: int) -> str: return a\n")
    code = marshal.loads(data[16:])
    assert code.co_filename == "/opt/python/spanwell/x.py"
    found = {}
    exec(code, found)
    assert found["f"].__annotations__ == {}


def test_classes_keep_their_annotations_and_other_packages_keep_all():
    source = b"class C:\n    a: int = 1\ndef f(a: int): return a\n"
    found, other = {}, {}
    exec(marshal.loads(slim.compiled(source, "/opt/python/spanwell/x.py")[16:]), found)
    exec(marshal.loads(slim.compiled(source, "/opt/python/_spanwell/wrapt/x.py")[16:]), other)
    assert found["C"].__annotations__ == {"a": int}
    assert other["f"].__annotations__ == {"a": int}


# --- what is in it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("spanwell/pipeline.py", True),
        ("spanwell/cli/doctor.py", False),
        ("spanwell/_shop/app.py", False),
        ("wrapt/_wrappers.cpython-313-x86_64-linux-gnu.so", False),
        ("wrapt/wrappers.py", True),
        ("opentelemetry/sdk/__init__.pyi", False),
        ("opentelemetry_api-1.45.1.dist-info/RECORD", False),
        ("opentelemetry_api-1.45.1.dist-info/METADATA", True),
        ("opentelemetry_api-1.45.1.dist-info/entry_points.txt", True),
    ],
)
def test_which_files_are_left_out(name, wanted):
    assert contents.wanted(name) is wanted


def test_metadata_keeps_what_programs_read():
    text = "Metadata-Version: 2.4\nName: a\nVersion: 1\nSummary: s\nRequires-Dist: b>=1\n\n# Name: of a readme\n"
    assert contents.headers(text) == "Metadata-Version: 2.4\nName: a\nVersion: 1\nRequires-Dist: b>=1\n"


def test_licences_are_told_from_the_rest():
    assert contents.is_license("wrapt-2.dist-info/licenses/LICENSE")
    assert contents.is_license("packaging-2.dist-info/LICENSE.APACHE")
    assert not contents.is_license("packaging/licenses/__init__.py")
    assert not contents.is_license("packaging-2.dist-info/METADATA")


def test_conventions_that_no_source_names_are_rare():
    sources = [
        ("spanwell/a.py", b"from opentelemetry.semconv.attributes import http_attributes"),
        ("opentelemetry/semconv/attributes/b.py", b"k8s_attributes"),
    ]
    used = contents.words(sources)
    assert not contents.rare("opentelemetry/semconv/attributes/http_attributes.py", used)
    assert contents.rare("opentelemetry/semconv/attributes/k8s_attributes.py", used)
    assert not contents.rare("opentelemetry/semconv/attributes/__init__.py", used)
    assert not contents.rare("spanwell/pipeline.py", used)
    assert contents.rare("spanwell/sampling/tail.py", used)


def test_what_starts_a_function_is_never_rare():
    for path in (ROOT / "src" / "spanwell" / "aws_lambda").glob("*.py"):
        assert not contents.rare(f"spanwell/aws_lambda/{path.name}", ())
        assert contents.wanted(f"spanwell/aws_lambda/{path.name}")


def test_every_rule_is_about_something():
    ours = [str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")]
    rules = [rule for rule in contents.RARE + contents.LEFT_OUT + contents.UNCHANGED if rule.startswith("spanwell/")]
    without = [rule for rule in rules if rule != "spanwell/_shop/*" and not any(map(path_matches(rule), ours))]
    assert without == []


def path_matches(rule: str):
    return lambda name: contents._any(name, (rule,))


# --- the zips -----------------------------------------------------------------------------------------------------


def test_a_zip_comes_out_the_same_whatever_the_order_and_the_clock(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    files = {"python/a.py": b"a", "otel-instrument": b"#!/bin/sh\n"}
    zips.write(tmp_path / "1.zip", files, frozenset({"otel-instrument"}))
    zips.write(tmp_path / "2.zip", dict(reversed(files.items())), frozenset({"otel-instrument"}))
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    size = zips.write(tmp_path / "3.zip", files)
    assert size == (tmp_path / "3.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "3.zip") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_everybody_may_read_and_only_the_wrapper_may_be_run(tmp_path):
    zips.write(tmp_path / "a.zip", {"python/a.py": b"", "otel-instrument": b""}, frozenset({"otel-instrument"}))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        modes = {entry.filename: oct(entry.external_attr >> 16 & 0o777) for entry in archive.infolist()}
    assert modes == {"python/a.py": "0o644", "otel-instrument": "0o755"}
