"""Lint, format, types and import layers are part of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.meta]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--no-cache", "--check", "."],
        ["mypy", "--no-incremental"],
        ["lint-imports", "--no-cache"],
    ],
    ids=["lint", "format", "types", "layers"],
)
def test_the_tool_has_nothing_to_say(command: list[str]) -> None:
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_and_functions_stay_short() -> None:
    import ast

    long = []
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        lines = len(text.splitlines())
        if lines > 450 and path.name != "settings.py":  # a table
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        long += [
            f"{path.relative_to(ROOT)}: {node.name} is long"
            for node in functions
            if (node.end_lineno or 0) - node.lineno > 60
        ]
    assert not long
