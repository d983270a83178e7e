"""What a join cannot do without: its input read, and a table like its output written, by PyArrow.

    python -m bench.join_floor IN LIKE OUT

OUT gets the rows of IN and random numbers, in the schema, row groups and codecs of LIKE.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gkc.offline.form import fixed_lists
from gkc.offline.parquet import ParquetTable, parquet_writer


def main(source: Path, like: Path, target: Path) -> None:
    """Read and write; the random numbers are drawn once."""
    metadata, schema = pq.read_metadata(like), pq.read_schema(like)
    rows, rng = metadata.row_group(0).num_rows, np.random.default_rng(0)
    width = schema.field("knowledge").type.list_size
    numbers = rng.standard_normal((rows, width)).astype(np.float16)
    added = [fixed_lists(numbers), fixed_lists(rng.integers(0, 3, (rows, 4)).astype(np.uint8))]
    with parquet_writer(target, schema, ["knowledge"]) as writer:
        for _, batch in ParquetTable(source).batches(rows):
            columns = [*batch.columns, *(column[: batch.num_rows] for column in added)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
