"""Answers to a whole table for which each user is read once, in whatever order its rows come.

For a store behind a network. Questions go to temporary files by the hash of their users; then all
users of one such file are read, a few at a time, and its questions answered into a second file. The
rows of each file keep the order of the table, so who reads the table again takes the answers from
the files one by one, in order. The files have no names: a killed run leaves none.
"""

from __future__ import annotations

import math
import pickle
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa

from gkc.arrays import I64
from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Records
from gkc.center.question import Columns
from gkc.knowledge import PARTS
from gkc.offline.form import KnowledgeForm, fixed_lists, width_of
from gkc.offline.laying import Fetch, RowLayer
from gkc.store import GenerationManifest, hashes_of
from gkc.strings import Ids, IdType, StringIds

_PARTITION_BYTES: Final = 64 << 20
"""Of the records of a partition's users, about: they are held at once."""
_MOST_PARTITIONS: Final = 256
"""Twice as many files are open."""
_USERS_AT_ONCE: Final = 64
"""A store that answers one read of so many users has time for others before the next."""
_BUFFER_BYTES: Final = 64 << 10

Progress = Callable[[int], None]


class SpilledAnswers:
    """Asks, answers, and gives the answers out again.

    Parameters
    ----------
    folder : Path
        Where temporary files go.
    rows : int
        Of the table.
    generations : mapping of str to LoadedGeneration
        By version; all that rows name.
    fetch : callable
        Reads users.
    form : KnowledgeForm

    Attributes
    ----------
    spans : mapping of str to (int, int)
        As a `RowLayer` has them.
    counts : ndarray, shape (4, 3), int64
        As a `RowLayer` has them.
    """

    def __init__(
        self,
        folder: Path,
        rows: int,
        generations: Mapping[str, LoadedGeneration],
        fetch: Fetch,
        form: KnowledgeForm,
    ) -> None:
        self._fetch = fetch
        self._generations = generations
        self._held: dict[str, dict[Any, bytes | memoryview | None]] = {}
        self._layer = RowLayer(generations, self._held_records, form)
        self.spans = self._layer.spans
        self.counts = self._layer.counts
        self._answer = np.dtype(
            [("knowledge", form.numbers, (width_of(self.spans),)), ("status", "u1", (len(PARTS),))]
        )
        self._count = _partitions(rows, generations.values())
        self._stack = ExitStack()
        self._asked = [self._file(folder) for _ in range(self._count)]
        self._answered = [self._file(folder) for _ in range(self._count)]

    def ask(self, columns: Columns) -> None:
        """Take the next rows of the table."""
        order, ends = self._by_partition(columns)
        columns = columns.at(order)
        for file, start, end in zip(self._asked, [0, *ends], ends, strict=False):
            if end > start:
                pickle.dump(columns.at(slice(start, end)), file, pickle.HIGHEST_PROTOCOL)

    def answer(self, progress: Progress) -> None:
        """Answer all rows; ``progress`` is told how many more are."""
        for asked, answered in zip(self._asked, self._answered, strict=True):
            self._read_users(asked)
            for columns in _questions(asked):
                for answer in self._layer.lay(columns):
                    packed = np.empty(len(answer.status), dtype=self._answer)
                    packed["knowledge"], packed["status"] = answer.knowledge, answer.status
                    answered.write(packed.tobytes())
                progress(columns.n)
            asked.close()
            answered.seek(0)
        self._held = {}

    def columns(self, columns: Columns) -> tuple[pa.ChunkedArray, ...]:
        """Return the answers to the next rows of the table, in the order in which they asked."""
        order, ends = self._by_partition(columns)
        packed = np.empty(columns.n, dtype=self._answer)
        for file, start, end in zip(self._answered, [0, *ends], ends, strict=False):
            if end > start:
                raw = file.read((end - start) * self._answer.itemsize)
                packed[start:end] = np.frombuffer(raw, dtype=self._answer)
        added = []
        for name in ("knowledge", "status"):
            rows = np.empty(packed[name].shape, dtype=packed[name].dtype)
            rows[order] = packed[name]
            added.append(pa.chunked_array([fixed_lists(rows)]))
        return tuple(added)

    def close(self) -> None:
        """Remove the temporary files."""
        self._stack.close()

    def _file(self, folder: Path) -> IO[bytes]:
        return self._stack.enter_context(
            tempfile.TemporaryFile(dir=folder, buffering=_BUFFER_BYTES)
        )

    def _by_partition(self, columns: Columns) -> tuple[I64, list[int]]:
        """Return the order of rows by partition, and where in it each partition ends."""
        high = hashes_of(columns.users) >> np.uint64(32)
        partitions = (high * np.uint64(self._count) >> np.uint64(32)).view(np.int64)
        counts = np.bincount(partitions, minlength=self._count)
        return partitions.argsort(kind="stable"), np.cumsum(counts).tolist()

    def _read_users(self, asked: IO[bytes]) -> None:
        """Read all users of a partition, in the order in which a store keeps them."""
        named: dict[str, dict[Any, None]] = {}
        for columns in _questions(asked):
            for plan in self._layer.plan(columns).versions:
                named.setdefault(plan.name, {}).update(dict.fromkeys(plan.users.tolist()))
        self._held = {}
        for version, users in named.items():
            manifest = self._generations[version].manifest
            ids = _ids_of(list(users), manifest.spec.user_id_type)
            ids = ids[hashes_of(ids).argsort()]
            held = self._held[manifest.generation] = {}
            for start in range(0, len(ids), _USERS_AT_ONCE):
                some = ids[start : start + _USERS_AT_ONCE]
                held.update(zip(some.tolist(), self._fetch(manifest, some), strict=True))

    def _held_records(self, manifest: GenerationManifest, users: Ids) -> Records:
        held = self._held[manifest.generation]
        return [held[user] for user in users.tolist()]


class PacedFetch:
    """Reads users, at most so many in a second.

    Parameters
    ----------
    fetch : callable
    per_second : float
    """

    def __init__(self, fetch: Fetch, per_second: float) -> None:
        self._fetch = fetch
        self._per_second = per_second
        self._next = time.monotonic()

    def __call__(self, manifest: GenerationManifest, users: Ids) -> Records:
        """Read users when it is their turn."""
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + len(users) / self._per_second
        return self._fetch(manifest, users)


def _partitions(rows: int, generations: Collection[LoadedGeneration]) -> int:
    """Return how many partitions a table is cut into, so that each one's users fit in memory."""
    specs = [loaded.manifest.spec for loaded in generations]
    largest = max(min(rows, spec.users) * spec.mean_record_bytes for spec in specs)
    return max(1, min(_MOST_PARTITIONS, math.ceil(largest / _PARTITION_BYTES)))


def _questions(file: IO[bytes]) -> Iterator[Columns]:
    """Yield the questions in a file, as they were asked."""
    file.seek(0)
    with suppress(EOFError):
        while True:
            yield pickle.load(file)


def _ids_of(users: list[Any], id_type: IdType) -> Ids:
    """Return the column that `tolist` made this list of."""
    return StringIds.of(users) if id_type == "string" else np.array(users, dtype=np.int64)
