"""docs/guarantees.md: every promise has a test, and each test that is named is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| (?!---|promise|what |it \|)", line)]


def named_in(row: str) -> list[tuple[str, str]]:
    """The files and names in a row's last column, where a name alone is of the file before."""
    found, file = [], ""
    for named, test in re.findall(r"`([\w/]*(?:\.py)?)::(test_\w+)`", row.split("|")[-2]):
        file = named or file
        found.append((file, test))
    return found


@cache
def names_in(file: str) -> set[str]:
    folder = ROOT / ("gkc/testing" if file.startswith("contract/") else "tests")
    parsed = ast.parse((folder / file).read_text())
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(parsed) if isinstance(node, functions)}


@pytest.mark.parametrize("row", ROWS, ids=[row[2:50] for row in ROWS])
def test_a_promise_has_tests(row: str) -> None:
    named = named_in(row)
    assert named
    assert [(file, test) for file, test in named if test not in names_in(file)] == []
