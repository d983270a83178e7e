"""A file appears whole, or what was there stays."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from keep.atomic import json_values, read_json, replaced, write_json, write_text


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_the_place_of_the_former_one_and_makes_its_folder(
    tmp_path: Path, durable: bool
) -> None:
    file = tmp_path / "new" / "file.txt"
    write_text(file, "a", durable=durable)
    write_text(file, "ä", durable=durable)
    assert file.read_text(encoding="utf-8") == "ä"
    assert list(file.parent.iterdir()) == [file]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    write_text(file, "former")
    with pytest.raises(IsADirectoryError), replaced(file) as temporary:
        temporary.write_bytes(b"half" + tmp_path.read_bytes())
    assert file.read_text() == "former"
    assert list(tmp_path.iterdir()) == [file]


def test_json_comes_back_and_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    assert read_json(file) == {}
    write_json(file, {"a": [1, None], "b": {"c": 0.5}})
    assert read_json(file) == {"a": [1, None], "b": {"c": 0.5}}


def test_figures_become_json_values_at_any_depth() -> None:
    values = {1: (0.1234567, math.nan), "of": {"high": -math.inf, "count": 3, "name": "a"}}
    of = {"high": None, "count": 3, "name": "a"}
    assert json_values(values, 6) == {"1": [0.123457, None], "of": of}
    assert json_values(values) == {"1": [0.1234567, None], "of": of}
