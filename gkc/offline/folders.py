"""Which files a join reads, and which file each of them becomes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from gkc.errors import TableFileError

TEMPORARY: Final = ".gkc-join"
"""How the names of files end that are not finished; they begin with a dot, so nobody reads them."""
_DELTA_LOG: Final = "_delta_log"


@dataclass(frozen=True, slots=True)
class FilePair:
    """A file to read and the file to write, which is the same file of the other folder."""

    source: Path
    target: Path

    @property
    def temporary(self) -> Path:
        """Where the target is written before it is whole."""
        return self.target.with_name(f".{self.target.name}{TEMPORARY}")


def pair_files(source: Path, target: Path) -> list[FilePair]:
    """Pair a file, or all files below a folder, with the files that they become.

    Raises
    ------
    TableFileError
        If there is nothing to read, the target is of another kind than the source, or one of them
        lies inside the other.
    """
    if not source.exists():
        raise TableFileError(str(source), "there is no such file or folder")
    _check_apart(source, target)
    if not source.is_dir():
        if target.is_dir():
            problem = f"is a folder, and {source} a file; name the file to write"
            raise TableFileError(str(target), problem)
        return _apart([FilePair(source, target)])
    if target.exists() and not target.is_dir():
        raise TableFileError(str(target), f"is a file, and {source} a folder; name another")
    found = sorted(visible_files(source))
    if not found:
        raise TableFileError(str(source), "holds no file whose name does not begin with . or _")
    return _apart([FilePair(path, target / path.relative_to(source)) for path in found])


def leftovers(source: Path, target: Path) -> list[Path]:
    """Return the files that a killed join of the same places left unfinished."""
    if source.is_dir():
        return sorted(target.rglob(f".*{TEMPORARY}"))
    temporary = FilePair(source, target).temporary
    return [temporary] if temporary.exists() else []


def visible_files(place: Path) -> Iterator[Path]:
    """Yield the files below a folder that readers of tables see, or the one file that it is.

    Raises
    ------
    TableFileError
        If a folder cannot be read, or holds files whose rows only others can tell.
    """
    if not place.is_dir():
        yield place
        return
    for above, folders, files in os.walk(place, onerror=_unreadable):
        if _DELTA_LOG in folders:
            problem = "is a Delta table, whose files hold deleted rows; write it anew"
            raise TableFileError(above, problem)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in [*folders, *sorted(files)]:
            path = Path(above, name)
            if path.is_symlink() and path.is_dir():
                raise TableFileError(str(path), "is a link to a folder; put the folder there")
            if name in files and not _is_hidden(name):
                if not path.is_file():
                    raise TableFileError(str(path), "is no regular file")
                yield path


def _check_apart(source: Path, target: Path) -> None:
    """Refuse to write where rows are read."""
    reads, writes = source.resolve(), target.resolve()
    if reads == writes:
        raise TableFileError(str(target), "is what is read; write to another place")
    if source.is_dir() and (reads in writes.parents or writes in reads.parents):
        raise TableFileError(str(target), f"lies in {source}, or holds it; write to another place")


def _apart(pairs: list[FilePair]) -> list[FilePair]:
    """Refuse files that would be written, or removed as unfinished, though they are read."""
    read = {pair.source.resolve(): pair.source for pair in pairs}
    for pair in pairs:
        for written in (pair.target, pair.temporary):
            if source := read.get(written.resolve()):
                problem = f"is where {pair.target} is written; write to another place"
                raise TableFileError(str(source), problem)
    return pairs


def _is_hidden(name: str) -> bool:
    """Tell whether Spark, Hive and Arrow pass a name over: markers and half-written files."""
    return name[0] == "." or (name[0] == "_" and "=" not in name)


def _unreadable(exc: OSError) -> NoReturn:
    raise TableFileError(str(exc.filename), f"cannot be read: {exc.strerror}") from exc
