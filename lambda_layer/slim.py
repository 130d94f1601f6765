"""Python source without its comments and docstrings, line by line what it was; and the bytecode of it.

Docstrings are a fifth of the bytecode that a cold start reads, and with the comments half of the sources' bytes in
the zip. Lines keep their numbers, so tracebacks stay right, and bytecode and source say the same.

As a script it compiles: `python -X no_debug_ranges slim.py FOLDER < names`, run by each interpreter.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import marshal
import os
import re
import sys
import tokenize

_PLACES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Where nothing reads the annotations of functions: 5 % of the bytecode, and of its work at the import.
_UNANNOTATED = ("/opt/python/spanwell/", "/opt/python/_spanwell/opentelemetry/")
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=]")


def slim(source: bytes) -> bytes:
    """`source` without comments and texts that stand alone; unchanged where that would change anything else."""
    if any(_CODING.match(line) for line in source.splitlines()[:2]):
        return source
    lines = source.decode("utf-8-sig").split("\n")
    for first, last, left in sorted(_texts(source) + _comments(source), reverse=True):
        _blank(lines, first, last, left)
    result = "\n".join(line.rstrip() for line in lines).encode()
    return result if _same(source, result) else source


def _texts(source: bytes) -> list[tuple[tuple[int, int], tuple[int, int], str]]:
    """Where docstrings and other texts alone in a statement begin and end, and what is left of each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, _PLACES):
            continue
        for index, child in enumerate(node.body):
            if _is_text(child):
                needed = (
                    index == 0 and all(_is_text(other) for other in node.body) and not isinstance(node, ast.Module)
                )
                found.append((*_span(source, child), "pass" if needed else ""))
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _span(source: bytes, node: ast.stmt) -> tuple[tuple[int, int], tuple[int, int]]:
    """ast counts columns in bytes, tokenize and str in characters."""
    lines = source.removeprefix(b"\xef\xbb\xbf").split(b"\n")

    def place(line: int, column: int) -> tuple[int, int]:
        return line, len(lines[line - 1][:column].decode())

    return place(node.lineno, node.col_offset), place(node.end_lineno or 0, node.end_col_offset or 0)


def _comments(source: bytes) -> list[tuple[tuple[int, int], tuple[int, int], str]]:
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return [(token.start, token.end, "") for token in tokens if token.type == tokenize.COMMENT]


def _blank(lines: list[str], first: tuple[int, int], last: tuple[int, int], left: str) -> None:
    (top, begin), (bottom, end) = first, last
    head, tail = lines[top - 1][:begin], lines[bottom - 1][end:]
    if top == bottom:
        lines[top - 1] = head + left + tail
        return
    lines[top - 1] = head + left
    for number in range(top, bottom - 1):
        lines[number] = ""
    lines[bottom - 1] = tail


def _same(source: bytes, result: bytes) -> bool:
    """Whether both are the same program in the same lines, but for the texts that stand alone."""
    try:
        return _program(source) == _program(result)
    except (SyntaxError, ValueError):
        return False


def _program(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _PLACES):
            node.body = [child for child in node.body if not (_is_text(child) or isinstance(child, ast.Pass))]
    places = [(type(node).__name__, node.lineno) for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return ast.dump(tree) + str(places)


def compiled(source: bytes, shown: str) -> bytes:
    """The content of the .pyc of `source`, whose tracebacks name the file `shown`."""
    tree = ast.parse(source, shown)
    if shown.startswith(_UNANNOTATED):
        _unannotate(tree)
    code = compile(tree, shown, "exec", dont_inherit=True, optimize=0)
    # 0b01: a hash that is never checked. Timestamps go stale in a zip, which rounds them to 2 s.
    head = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little") + importlib.util.source_hash(source)
    return head + marshal.dumps(code)


def _unannotate(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None


def main() -> None:
    """Read names from stdin, one a line; `FOLDER/python/x.py` is shown as `/opt/python/x.py`."""
    folder = sys.argv[1]
    for line in sys.stdin:
        name = line.strip()
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            content = compiled(file.read(), "/opt/" + name)
        target = importlib.util.cache_from_source(path, optimization="")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)


if __name__ == "__main__":
    main()
