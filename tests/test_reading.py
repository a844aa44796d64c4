"""The script reads like a book: short functions, classes of one concern, chapters that use what stands before them."""

from __future__ import annotations

import ast
import itertools
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from boxes import SCRIPT

TEXT = SCRIPT.read_text()
LONGEST_FUNCTION, LONGEST_CLASS = 40, 200
BEGINNINGS = [number for number, line in enumerate(TEXT.splitlines(), 1) if re.match("# === .* =+$", line)]


@pytest.fixture(scope="module")
def tree() -> ast.Module:
    """The script; not for those who only collect tests, which takes half a second otherwise."""
    return ast.parse(TEXT)


def length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def chapter(node: ast.stmt) -> int:
    return sum(beginning <= node.lineno for beginning in BEGINNINGS)


def defined(node: ast.stmt) -> Iterator[str]:
    """The names that a statement of the module defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def used(node: ast.AST, own: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names that run when a statement does, without annotations and a function's own variables."""
    if isinstance(node, ast.Name):
        yield from ({node.id} - own if isinstance(node.ctx, ast.Load) else ())
        return
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        own |= {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        own |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns"):
            for below in value if isinstance(value, list) else [value]:
                if isinstance(below, ast.AST):
                    yield from used(below, own)


def test_no_function_and_no_class_is_too_long(tree: ast.Module) -> None:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert len(functions) > 100
    assert [node.name for node in functions if length(node) > LONGEST_FUNCTION] == []
    assert [node.name for node in classes if length(node) > LONGEST_CLASS] == []


def test_each_chapter_uses_what_stands_before_it_alone(tree: ast.Module) -> None:
    home = {name: chapter(node) for node in tree.body for name in defined(node)}
    assert len(set(home.values())) == len(BEGINNINGS) + 1
    uses = itertools.chain.from_iterable(((node, name) for name in used(node)) for node in tree.body)
    assert [(node.lineno, name) for node, name in uses if home.get(name, 0) > chapter(node)] == []


def test_what_is_defined_is_used(tree: ast.Module) -> None:
    names = set(itertools.chain.from_iterable(defined(node) for node in tree.body))
    words = Counter(re.findall(r"\w+", TEXT))
    assert {name for name in names if words[name] < 2} - {"main"} == set()


def test_a_named_tuple_takes_no_field_of_a_dataclass_for_a_default(tree: ast.Module) -> None:
    tuples = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and "NamedTuple" in map(ast.unparse, node.bases)
    ]
    assert len(tuples) > 10
    assert [node.name for node in tuples if "dataclasses.field" in ast.unparse(node)] == []
