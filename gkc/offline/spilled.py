"""Answers to a whole table for which each user is read once, in whatever order its rows come.

For a store behind a network. Questions go to temporary files by the hash of their users; then all
users of one such file are read, a few at a time, and its questions answered into a second file. The
rows of each file keep the order of the table, so who reads the table again takes the answers from
the files one by one, in order. The files have no names: a killed run leaves none.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gkc.arrays import I64
from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Records
from gkc.center.question import Columns
from gkc.knowledge import PARTS
from gkc.offline.form import KnowledgeForm, fixed_lists
from gkc.offline.laying import Fetch, RowLayer
from gkc.store import GenerationManifest, hash_ids

_QUESTION: Final = np.dtype(
    [("user", "<i8"), ("item", "<i8"), ("category", "<i8"), ("version", "<i4"), ("given", "?")]
)
_PARTITION_BYTES: Final = 64 << 20
"""Of the records of a partition's users, about: they are held at once."""
_MOST_PARTITIONS: Final = 256
"""Twice as many files are open."""
_PIECE_ROWS: Final = 1 << 16
_USERS_AT_ONCE: Final = 64
"""A store that answers one read of so many users has time for others before the next."""
_BUFFER_BYTES: Final = 64 << 10

Progress = Callable[[int], None]
Structured = npt.NDArray[np.void]


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
    width : int
        Numbers of a row.
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
        self._generations = list(generations.values())
        self._versions = list(generations)
        self._held: dict[str, dict[int, bytes | memoryview | None]] = {}
        self._layer = RowLayer(generations, self._held_records, form)
        self.spans, self.width = self._layer.spans, self._layer.width
        self.counts = self._layer.counts
        self._answer = np.dtype(
            [("knowledge", form.numbers, (self.width,)), ("status", "u1", (len(PARTS),))]
        )
        self._count = _partitions(rows, self._generations)
        self._stack = ExitStack()
        self._asked = [self._file(folder) for _ in range(self._count)]
        self._answered = [self._file(folder) for _ in range(self._count)]

    def ask(self, columns: Columns) -> None:
        """Take the next rows of the table."""
        asked = np.empty(columns.n, dtype=_QUESTION)
        asked["user"], asked["item"] = columns.users, columns.items
        asked["category"] = 0 if columns.categories is None else columns.categories
        asked["given"] = False if columns.has_category is None else columns.has_category
        codes = np.array([self._versions.index(v) for v in columns.versions], dtype=np.int32)
        asked["version"] = codes[columns.version_index]
        order, ends = self._by_partition(columns)
        asked = asked[order]
        for file, start, end in zip(self._asked, [0, *ends], ends, strict=False):
            file.write(asked[start:end].tobytes())

    def answer(self, progress: Progress) -> None:
        """Answer all rows; ``progress`` is told how many more are."""
        for asked, answered in zip(self._asked, self._answered, strict=True):
            self._read_users(asked)
            for columns in self._questions(asked):
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
        users = columns.users
        assert isinstance(users, np.ndarray)  # a generation of strings was refused
        high = hash_ids(np.broadcast_to(users, columns.n)) >> np.uint64(32)
        partitions = (high * np.uint64(self._count) >> np.uint64(32)).view(np.int64)
        counts = np.bincount(partitions, minlength=self._count)
        return partitions.argsort(kind="stable"), np.cumsum(counts).tolist()

    def _read_users(self, asked: IO[bytes]) -> None:
        """Read all users of a partition, in the order in which a store keeps them."""
        users: dict[int, I64] = {}
        for rows in _pieces(asked):
            for version in np.unique(rows["version"]).tolist():
                of_version = rows["user"][rows["version"] == version]
                known = users.get(version, of_version[:0])
                users[version] = np.union1d(known, of_version)
        self._held = {}
        for version, ids in users.items():
            ids = ids[hash_ids(ids).argsort()]
            manifest = self._generations[version].manifest
            held = self._held[manifest.generation] = {}
            for start in range(0, len(ids), _USERS_AT_ONCE):
                some = ids[start : start + _USERS_AT_ONCE]
                held.update(zip(some.tolist(), self._fetch(manifest, some), strict=True))

    def _held_records(self, manifest: GenerationManifest, users: I64) -> Records:
        held = self._held[manifest.generation]
        return [held[user] for user in users.tolist()]

    def _questions(self, asked: IO[bytes]) -> Iterator[Columns]:
        for rows in _pieces(asked):
            versions, index = np.unique(rows["version"], return_inverse=True)
            yield Columns(
                n=len(rows),
                users=np.ascontiguousarray(rows["user"]),
                items=np.ascontiguousarray(rows["item"]),
                categories=np.ascontiguousarray(rows["category"]),
                has_category=np.ascontiguousarray(rows["given"]),
                versions=tuple(self._versions[code] for code in versions.tolist()),
                version_index=index if len(versions) > 1 else index[:1],
            )


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

    def __call__(self, manifest: GenerationManifest, users: I64) -> Records:
        """Read users when it is their turn."""
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + len(users) / self._per_second
        return self._fetch(manifest, users)


def _partitions(rows: int, generations: Sequence[LoadedGeneration]) -> int:
    """Return how many partitions a table is cut into, so that each one's users fit in memory."""
    specs = [loaded.manifest.spec for loaded in generations]
    largest = max(min(rows, spec.users) * spec.mean_record_bytes for spec in specs)
    return max(1, min(_MOST_PARTITIONS, math.ceil(largest / _PARTITION_BYTES)))


def _pieces(file: IO[bytes]) -> Iterator[Structured]:
    """Yield the questions in a file, some at a time."""
    file.seek(0)
    while raw := file.read(_PIECE_ROWS * _QUESTION.itemsize):
        yield np.frombuffer(raw, dtype=_QUESTION)
