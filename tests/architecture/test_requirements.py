"""Every clause has a test that names it, and the reference says which (``--update-golden`` writes it anew)."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

from tests.requirements import CLAUSES, TITLES

ROOT = Path(settings.BASE_DIR)
PAGE = ROOT / "docs" / "reference" / "security-requirements.md"
INTRODUCTION = """# Security requirements and their tests

Each clause is held by the tests beside it; a clause without one fails the suite. This page is made from
`tests/requirements.py` and the tests themselves:
`pytest tests/architecture/test_requirements.py --update-golden` writes it anew.
"""


def clauses_named(decorators: list[ast.expr]) -> Iterator[str]:
    for decorator in decorators:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.requirement":
            yield from (str(ast.literal_eval(argument)) for argument in decorator.args)


@cache
def found_by_clause() -> dict[str, list[tuple[str, str]]]:
    """File and test of each clause, read from the sources: so that it does not matter which tests run."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for clause in clauses_named(node.decorator_list):
                    found[clause].append((str(path.relative_to(ROOT)), node.name))
    return found


def row_of(clause: str) -> str:
    return "M" if clause.startswith("M") else clause.partition(".")[0]


def page() -> str:
    lines = [INTRODUCTION]
    for row, title in TITLES.items():
        label = "" if row == "M" else f"{row}. "
        lines += [f"## {label}{title}\n", "| clause | what | tests |", "|---|---|---|"]
        for clause, sentence in CLAUSES.items():
            if row_of(clause) == row:
                lines.append(f"| {clause} | {sentence} | {_tests(clause)} |")
        lines.append("")
    return "\n".join(lines)


def _tests(clause: str) -> str:
    by_file: dict[str, list[str]] = defaultdict(list)
    for file, name in found_by_clause()[clause]:
        by_file[file].append(f"`{name.removeprefix('test_')}`")
    return "<br>".join(f"[{Path(file).name}](../../{file}): {', '.join(names)}" for file, names in by_file.items())


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_clause_has_a_test(clause: str) -> None:
    assert found_by_clause()[clause], f"no test names {clause}: {CLAUSES[clause]}"
    assert row_of(clause) in TITLES


def test_every_row_has_a_clause() -> None:
    assert {row_of(clause) for clause in CLAUSES} == set(TITLES)


def test_no_test_names_a_clause_that_is_not_there() -> None:
    assert not set(found_by_clause()) - set(CLAUSES)


def test_the_reference_says_where_each_is_tested(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--update-golden"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "run it with --update-golden"
