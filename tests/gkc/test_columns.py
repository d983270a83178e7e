from __future__ import annotations

import pyarrow as pa
import pytest

from gkc.columns import instead, renaming


@pytest.mark.parametrize(
    ("name", "other"), [("user_id", "user"), ("user", "user_id"), ("category_id", "category")]
)
def test_the_other_form_of_a_name_is_to_be_renamed(name: str, other: str) -> None:
    hint = f"is {other!r} it? rename it to {name!r}"
    assert renaming(name, ["label", other]) == hint
    assert instead(name, pa.schema([(other, pa.int64())])) == hint
    assert renaming(name, ["label"]) == ""


def test_else_the_columns_are_named_up_to_twenty() -> None:
    schema = pa.schema([(f"x{number}", pa.int64()) for number in range(21)])
    told = instead("user_id", schema)
    assert told.startswith("its columns: x0, x1, ")
    assert told.endswith(", x19")


def test_an_index_of_pandas_is_told_of() -> None:
    metadata = {b"pandas": b'{"index_columns": ["user_id"], "columns": []}'}
    schema = pa.schema([("user", pa.int64())], metadata)
    assert "reset_index()" in instead("user_id", schema)
    assert "is 'user' it" not in instead("user_id", schema)
