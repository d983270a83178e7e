"""What is added to each row of a table, and what the table's schema says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from gkc.arrays import U8
from gkc.center.question import ANSWER_TYPES, AnswerType, RowsAnswer, in_row_order
from gkc.errors import CommandError
from gkc.knowledge import PARTS, Part, Vectors

VERSIONS_KEY: Final = "gkc.versions"
"""Of a schema's metadata: the generation of each version, JSON."""
SPACES_KEY: Final = "gkc.vector_spaces"
"""Of a schema's metadata: the vector space of each version that is known to have one, JSON."""
CHECKSUMS_KEY: Final = "gkc.checksums"
"""Of a schema's metadata: the SHA-256 of each generation's manifest by version, JSON."""
PARTS_KEY: Final = "gkc.parts"
"""Of a schema's metadata: first and end number of each part in ``knowledge``, JSON."""

Spans = Mapping[Part, tuple[int, int]]
"""First and end number of each part in a row."""

_SPARK_SCHEMA: Final = b"org.apache.spark.sql.parquet.row.metadata"
"""Where Spark keeps a table's columns: it would not see those that are added."""


@dataclass(frozen=True, slots=True)
class KnowledgeForm:
    """What is added to each row.

    Attributes
    ----------
    dtype : {"f32", "f16"}
    parts : tuple of str
        In row order.
    prefix : str
        Of the names of both columns.
    """

    dtype: AnswerType = "f32"
    parts: tuple[Part, ...] = PARTS
    prefix: str = ""

    @classmethod
    def of(cls, dtype: str, parts: Sequence[str], prefix: str) -> KnowledgeForm:
        """Check what a caller asks for.

        Raises
        ------
        CommandError
            If there is no such type or part, or no part at all.
        """
        if isinstance(parts, str):
            raise CommandError(f"parts are named in a list, such as [{parts!r}], not in one text")
        if dtype not in ANSWER_TYPES:
            raise CommandError(f"dtype {dtype!r} is none of {', '.join(ANSWER_TYPES)}")
        unknown = [part for part in parts if part not in PARTS]
        if unknown or not parts:
            what = f"{unknown[0]!r} is no part" if unknown else "no part is asked for"
            raise CommandError(f"{what}; the parts are {', '.join(PARTS)}")
        return cls(dtype, in_row_order(parts), prefix)

    @property
    def numbers(self) -> np.dtype[np.float16 | np.float32]:
        """The type of the numbers."""
        return np.dtype(np.float16 if self.dtype == "f16" else np.float32)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the columns that are added."""
        return f"{self.prefix}knowledge", f"{self.prefix}status"

    def fields(self, width: int) -> list[pa.Field]:
        """Return the columns that are added, of rows of so many numbers."""
        numbers = pa.from_numpy_dtype(self.numbers)
        types = pa.list_(numbers, width), pa.list_(pa.uint8(), len(PARTS))
        return [pa.field(name, held) for name, held in zip(self.names, types, strict=True)]

    def columns(self, answers: Sequence[RowsAnswer]) -> tuple[pa.ChunkedArray, ...]:
        """Return the columns that are added to the rows of some answers, one after the other."""
        return (
            pa.chunked_array([fixed_lists(answer.knowledge) for answer in answers]),
            pa.chunked_array([fixed_lists(answer.status) for answer in answers]),
        )

    def joined(self, schema: pa.Schema, spans: Spans, metadata: Mapping[str, str]) -> pa.Schema:
        """Return a table's schema with both columns, where their parts are, and more metadata."""
        metadata = {**metadata, PARTS_KEY: json.dumps(dict(spans))}
        kept = {k: v for k, v in (schema.metadata or {}).items() if k != _SPARK_SCHEMA}
        added = {name.encode(): told.encode() for name, told in metadata.items()}
        return pa.schema([*schema, *self.fields(width_of(spans))], metadata={**kept, **added})


def width_of(spans: Spans) -> int:
    """Return how many numbers a row of these parts has."""
    return max(end for _, end in spans.values())


def fixed_lists(rows: Vectors | U8) -> pa.FixedSizeListArray:
    """Return an array's rows as lists, which share its memory if it is contiguous."""
    n, width = rows.shape
    held = pa.py_buffer(np.ascontiguousarray(rows))
    flat = pa.Array.from_buffers(pa.from_numpy_dtype(rows.dtype), n * width, [None, held])
    return pa.FixedSizeListArray.from_arrays(flat, width)
