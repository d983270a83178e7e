"""Parquet files read and written a bounded number of rows at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from gkc.errors import TableFileError

_READ_BUFFER_BYTES: Final = 1 << 20
_CODEC: Final = "zstd"
_UNFINISHED: Final = ".gkc-export-table"
"""How the name of a folder ends that is not finished; it begins with a dot."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What another content of a file differs in."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """Return the one that a file has now."""
        told = path.stat()
        return cls(told.st_ino, told.st_size, told.st_mtime_ns)


class ParquetTable:
    """A Parquet file, as its footer tells of it.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    path : Path
    stamp : FileStamp
        What it was when its footer was read.
    schema : Schema
    rows : int
    group_rows : list of int
        Of each row group.
    row_bytes : float
        Of a row, about, uncompressed.
    null_columns : frozenset of str
        Those that hold null in every row, as the footer tells.

    Raises
    ------
    TableFileError
        If it is none, or is changed meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _as_file_errors(path, "is no readable Parquet file"):
            require_file(path)
            self.stamp = FileStamp.of(path)
            with pq.ParquetFile(path) as file:
                metadata, self.schema = file.metadata, file.schema_arrow
            self._require_same()
        groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
        self.rows: int = metadata.num_rows
        self.group_rows: list[int] = [group.num_rows for group in groups]
        self.null_columns = frozenset(
            groups[0].column(k).path_in_schema
            for k in range(metadata.num_columns if self.rows else 0)
            if all(_is_null(group.column(k)) for group in groups)
        )
        self.row_bytes = sum(group.total_byte_size for group in groups) / max(self.rows, 1)

    def batches(
        self,
        at_once: int,
        columns: Sequence[str] | None = None,
        group: int | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows, in order, and the number of the first one of each batch.

        Parameters
        ----------
        at_once : int
            Rows of a batch, at most.
        columns : sequence of str, optional
            The only ones to read.
        group : int, optional
            The only row group to read.

        Raises
        ------
        TableFileError
            If the file cannot be read, or was changed since it was first looked at.
        """
        groups = range(len(self.group_rows)) if group is None else [group]
        first = sum(self.group_rows[: groups[0]]) if groups else 0
        with (
            _as_file_errors(self.path, "cannot be read"),
            # Unbuffered, a column of a row group is held whole; read ahead, the file is.
            pq.ParquetFile(self.path, buffer_size=_READ_BUFFER_BYTES, pre_buffer=False) as file,
        ):
            self._require_same()
            for batch in file.iter_batches(at_once, row_groups=groups, columns=columns):
                if batch.num_rows:
                    yield first, batch
                first += batch.num_rows
            self._require_same()

    def _require_same(self) -> None:
        """Refuse rows that are not those of the footer, or of another time they were read."""
        if FileStamp.of(self.path) != self.stamp:
            raise TableFileError(str(self.path), "was changed while it was read; run it again")


def _is_null(chunk: pq.ColumnChunkMetaData) -> bool:
    told = chunk.statistics
    return told is not None and told.has_null_count and told.null_count == chunk.num_values


@contextmanager
def replacing(temporary: Path, target: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Give a file to write, or a folder to fill with files; it gets its name when all ends well.

    Else it is no more.

    Raises
    ------
    TableFileError
        If another process writes it, or the file system refuses it.
    """
    with _as_file_errors(target, "cannot be written"):
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = None
        try:
            fd = lock(temporary, is_folder=is_folder)
            if fd is None:
                raise TableFileError(
                    str(target), "is being written by another process; wait for it"
                )
            for left in temporary.iterdir() if is_folder else ():  # by a run that was killed
                left.unlink()
            yield temporary
            for path in temporary.iterdir() if is_folder else ():
                _sync(path)
            os.fsync(fd)
            temporary.replace(target)
            _sync(target.parent)
        finally:
            if fd is not None:
                if _is_at(fd, temporary):  # once it has its name, the other is free for others
                    shutil.rmtree(temporary) if is_folder else temporary.unlink()
                os.close(fd)


def replacing_folder(target: Path) -> AbstractContextManager[Path]:
    """Give a folder to fill with files; as `replacing`."""
    target = target.absolute()
    return replacing(target.with_name(f".{target.name}{_UNFINISHED}"), target, is_folder=True)


def lock(path: Path, *, is_folder: bool = False) -> int | None:
    """Lock a file, or a folder, which is made if it is not there, until its descriptor is closed.

    None if another has it.
    """
    kind = os.O_DIRECTORY if is_folder else os.O_RDWR | os.O_CREAT
    while True:
        if is_folder:
            path.mkdir(exist_ok=True)
        fd = os.open(path, kind | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if _is_at(fd, path):
            return fd
        os.close(fd)  # who had the lock removed or renamed it after it was opened here


def _is_at(fd: int, path: Path) -> bool:
    """Tell whether a path names the very file that is open."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def remove_unlocked(path: Path) -> None:
    """Remove an unfinished file.

    Raises
    ------
    TableFileError
        If somebody writes it at this moment.
    """
    with _as_file_errors(path, "cannot be removed"):
        fd = lock(path)
        if fd is None:
            raise TableFileError(str(path), "is being written by another process; wait for it")
        path.unlink()
        os.close(fd)


def require_file(path: Path) -> None:
    """Refuse what is no file: a pipe would be waited for."""
    if not path.exists():
        raise TableFileError(str(path), "there is no such file or folder")
    if not path.is_file():
        raise TableFileError(str(path), "is no regular file")


def schema_metadata(path: Path) -> dict[str, str]:
    """Return what a Parquet file tells of itself, nothing if it is none.

    Raises
    ------
    TableFileError
        If it is no file.
    """
    require_file(path)
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError):
        return {}
    return {
        name.decode(errors="replace"): raw.decode(errors="replace")
        for name, raw in metadata.items()
    }


@contextmanager
def parquet_writer(
    path: Path, schema: pa.Schema, noise: Collection[str] = ()
) -> Iterator[pq.ParquetWriter]:
    """Give a writer of a Parquet file; each table written is a row group.

    Parameters
    ----------
    path : Path
    schema : Schema
    noise : collection of str
        Columns of numbers that nothing makes smaller: they are written as they are.
    """
    others = [leaf for leaf in _leaves(schema) if leaf.partition(".")[0] not in noise]
    with pq.ParquetWriter(
        str(path),
        schema,
        compression=dict.fromkeys(others, _CODEC),
        use_dictionary=others,
        write_statistics=others,
    ) as writer:
        yield writer


def _leaves(schema: pa.Schema) -> list[str]:
    """Return what Parquet calls the columns of a schema."""
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema).close()
    columns = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [columns.column(k).path for k in range(len(columns))]


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _as_file_errors(path: Path, problem: str) -> Iterator[None]:
    """Turn what Arrow and the file system say into errors that name the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as exc:
        said = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise TableFileError(str(path), f"{problem}: {' '.join(said.split())}") from exc
