"""Files shared out among processes, and one of them killed."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from gkc.errors import CommandError
from gkc.offline.folders import FilePair
from gkc.offline.form import KnowledgeForm
from gkc.offline.joiner import FileJob, JoinOptions
from gkc.offline.parquet import ParquetTable
from gkc.offline.processes import MadeOf, run_in_processes
from gkc.offline.snapshot import Snapshot, StoreAddress
from tests.gkc.offline.tables import draw, expected, read, told, write
from tests.gkc.world import Worlds


def made_of(worlds: Worlds) -> MadeOf:
    store = StoreAddress(worlds.url)
    options = JoinOptions(Path("in"), Path("out"), store, "half", None, KnowledgeForm())
    return options, Snapshot.take(store), ("half",)


def jobs(folder: Path, files: int) -> list[FileJob]:
    names = [str(k) for k in range(files)]
    sources = [write(draw(100, k), folder / "in" / name) for k, name in enumerate(names)]
    pairs = [FilePair(source, folder / "out" / source.name) for source in sources]
    return [FileJob(pair, ParquetTable(pair.source), ("half",), {}) for pair in pairs]


def test_each_file_is_joined_once(worlds: Worlds, tmp_path: Path) -> None:
    steps: list[int] = []
    found = list(run_in_processes(made_of(worlds), jobs(tmp_path, 5), 2, steps.append))
    assert [counts.sum() for counts in found] == [400] * 5
    assert sum(steps) == 500
    for k in range(5):
        table = read(tmp_path / "out" / str(k))
        assert told(table) == expected(draw(100, k), [worlds["half"]])
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("end", [BaseProcess.kill, BaseProcess.terminate])
def test_a_process_that_is_killed(
    worlds: Worlds, tmp_path: Path, end: Callable[[BaseProcess], None]
) -> None:
    def kill(_: int) -> None:
        for process in multiprocessing.active_children():
            assert process.pid is not None
            end(process)

    with pytest.raises(CommandError, match="a process of the join was killed"):
        list(run_in_processes(made_of(worlds), jobs(tmp_path, 3), 2, kill))


def test_a_join_that_fails_ends_the_others(worlds: Worlds, tmp_path: Path) -> None:
    broken = [replace(job, versions=("none",)) for job in jobs(tmp_path, 4)]
    with pytest.raises(CommandError, match="version 'none' is not in the store"):
        list(run_in_processes(made_of(worlds), broken, 2, lambda _: None))
    assert [*(tmp_path / "out").iterdir()] == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
