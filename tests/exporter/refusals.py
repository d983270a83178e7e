"""What the tests of refusals share: how a bundle is spoilt, and what its refusal leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

from gkc.errors import GkcError
from tests.exporter.bundles import Built
from tests.exporter.conftest import Export
from tests.exporter.places import Place

Change = Callable[[Built], object]


def refuse(
    export: Export,
    place: Place,
    built: Built,
    error: type[GkcError],
    *needed: str,
    **options: Any,
) -> None:
    """Export, expect the error, each needed text in its message, and an empty store."""
    with pytest.raises(error) as caught:
        export(built, place, **options)
    message = str(caught.value)
    assert "\n" not in message
    for text in needed:
        assert text in message, message
    assert place.data() == {}
    assert place.catalogue_is_empty()


def manifest(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda built: built.change_manifest(change)


def column(name: str, column: str, row: int, value: Any) -> Change:
    """Set one value of one column."""

    def change(built: Built) -> None:
        values = built.tables[name].column(column).to_pylist()
        values[row] = value
        built.set_column(name, column, values)

    return change


def edited(name: str, change: Callable[[onnx.ModelProto], object]) -> Change:
    """Change a model's ONNX."""

    def edit(built: Built) -> None:
        loaded = onnx.load(str(built.path / name))
        change(loaded)
        (built.path / name).write_bytes(loaded.SerializeToString())

    return edit
