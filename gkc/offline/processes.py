"""Files of one join shared out among processes: each row is laid by one core, whatever it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Final

from gkc.arrays import I64
from gkc.errors import CommandError, GkcError
from gkc.offline.joiner import FileJob, Joiner, JoinOptions
from gkc.offline.snapshot import Snapshot
from gkc.offline.spilled import Progress

MadeOf = tuple[JoinOptions, Snapshot, tuple[str, ...]]
"""What a `Joiner` is made of."""
_TICK_SECONDS: Final = 0.2


def run_in_processes(
    made_of: MadeOf, jobs: Sequence[FileJob], processes: int, progress: Progress
) -> Iterator[I64]:
    """Join files, each process by a `Joiner` of its own; yield what each join gives.

    Raises
    ------
    CommandError
        If one cannot be joined, or a process was killed; files that were finished stay.
    """
    context = multiprocessing.get_context("spawn")  # Arrow's threads do not live on in a fork
    done, stop = context.Value("q", 0), context.Event()
    told = 0
    with ProcessPoolExecutor(processes, context, _begin, (made_of, done, stop)) as pool:
        waiting = {pool.submit(_join, job) for job in jobs}
        try:
            while waiting:
                finished, waiting = wait(waiting, _TICK_SECONDS, FIRST_COMPLETED)
                progress(done.value - told)
                told = done.value
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as exc:
            raise CommandError(
                "a process of the join was killed, perhaps for want of memory; "
                "run it again: files that were finished stay"
            ) from exc
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


class _Part:
    """What one process has of a join."""

    def __init__(self, made_of: MadeOf, done: Synchronized[int], stop: Event) -> None:
        self.joiner = Joiner(*made_of)
        self._done = done
        self._stop = stop

    def progress(self, rows: int) -> None:
        """Count rows; raises CommandError once the join has ended."""
        if self._stop.is_set():
            raise CommandError("the join has ended")
        with self._done.get_lock():
            self._done.value += rows


_part: _Part | None = None


def _begin(made_of: MadeOf, done: Synchronized[int], stop: Event) -> None:
    global _part
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which says stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _part = _Part(made_of, done, stop)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _join(job: FileJob) -> I64:
    assert _part is not None
    try:
        return _part.joiner.join(job, _part.progress)
    except GkcError as exc:
        raise CommandError(str(exc)) from None  # the others are not made to be sent
