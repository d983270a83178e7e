"""What is said of a table that has no column of some name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

_MOST_NAMES: Final = 20
_ID: Final = "_id"


def instead(name: str, schema: Any) -> str:  # noqa: ANN401 - pyarrow publishes no types
    """Say where a column that an Arrow schema lacks may be, or what columns there are."""
    pandas = schema.pandas_metadata or {}
    index = [i["name"] if isinstance(i, dict) else i for i in pandas.get("index_columns", [])]
    if name in index or "__index_level_0__" in index:
        return "pandas keeps an index apart: reset_index() before to_parquet()"
    return renaming(name, schema.names) or f"its columns: {', '.join(schema.names[:_MOST_NAMES])}"


def renaming(name: str, names: Collection[str]) -> str:
    """Say which column to rename, if one has the other form of a name; else nothing.

    Logs have ``user``, ``item`` and ``category``, bundles and joins have ``user_id`` and so on.
    """
    other = name.removesuffix(_ID) if name.endswith(_ID) else name + _ID
    return f"is {other!r} it? rename it to {name!r}" if other in names else ""
