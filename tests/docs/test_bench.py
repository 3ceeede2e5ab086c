"""The benchmarks that are described are the ones there are."""

from __future__ import annotations

import ast
import re

import pytest

from apimgr.env import BASE_DIR

# Read, not imported: it has this process import the compiled gateway.
PROGRAM = ast.parse((BASE_DIR / "tests" / "bench" / "__main__.py").read_text())


def cases() -> list[str]:
    (found,) = (
        node.value
        for node in ast.walk(PROGRAM)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CASES"
    )
    assert isinstance(found, ast.Dict)
    return [ast.literal_eval(name) for name in found.keys if name is not None]


@pytest.mark.parametrize("where", ["docs/explanation/performance.md", "tests/bench/__main__.py"])
def test_every_case_is_described_and_no_other(where: str) -> None:
    if where.endswith(".py"):
        described = re.findall(r"^``(\w+)", ast.get_docstring(PROGRAM) or "", re.MULTILINE)[1:]
    else:
        table = (BASE_DIR / where).read_text().partition("| case | what |\n")[2].partition("\n\n")[0]
        described = [name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in cell.split(", ")]
    assert [name.strip("`") for name in described] == cases()
