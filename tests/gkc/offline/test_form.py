"""What is added to rows, and what a schema tells of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from gkc.errors import CommandError
from gkc.offline.form import KnowledgeForm, fixed_lists


def test_parts_come_in_row_order() -> None:
    assert KnowledgeForm.of("f16", ["user_category", "user"], "").parts == ("user", "user_category")


@pytest.mark.parametrize(
    ("dtype", "parts", "said"),
    [
        ("f64", ["user"], "dtype 'f64' is none of f32, f16"),
        ("f32", ["users"], "'users' is no part; the parts are user, item,"),
        ("f32", [], "no part is asked for"),
        ("f32", "user_item", r"parts are named in a list, such as \['user_item'\], not in one"),
    ],
)
def test_what_cannot_be_asked(dtype: str, parts: Sequence[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        KnowledgeForm.of(dtype, parts, "")


def test_a_schema_keeps_all_that_it_had() -> None:
    schema = pa.schema(
        [pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})],
        metadata={"pandas": "{}", "org.apache.spark.sql.parquet.row.metadata": "{}"},
    )
    joined = KnowledgeForm("f16", prefix="p_").joined(
        schema, {"user": (0, 3), "user_category": (3, 5)}, {"gkc.versions": "{}"}
    )
    assert joined.field(0).equals(schema.field(0), check_metadata=True)
    assert joined.field("p_knowledge").type == pa.list_(pa.float16(), 5)
    assert joined.field("p_status").type == pa.list_(pa.uint8(), 4)
    # Spark's own list of columns would hide those that are added.
    parts = b'{"user": [0, 3], "user_category": [3, 5]}'
    assert joined.metadata == {b"pandas": b"{}", b"gkc.versions": b"{}", b"gkc.parts": parts}


def test_lists_share_the_memory_of_rows() -> None:
    rows = np.arange(6, dtype=np.float16).reshape(2, 3)
    lists = fixed_lists(rows)
    assert lists.to_pylist() == rows.tolist()
    assert np.shares_memory(lists.flatten().to_numpy(), rows)
    assert fixed_lists(rows[:, ::2]).to_pylist() == [[0, 2], [3, 5]]
