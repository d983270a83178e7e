"""Jobs in worker processes: as many at a time as there are cores, each once, resumable."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gkc.errors import GkcError
from keep.errors import ProblemError
from keep.reproduce.workshop import Workshop


class ReproductionError(ProblemError):
    """A reproduction that cannot start, or a job of it that failed."""


class Job(Protocol):
    """A piece of work that leaves a file, whole or not at all; a plain value."""

    @property
    def name(self) -> str:
        """What progress shows."""
        ...

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves: a job whose file exists is done."""
        ...

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        ...


class Pool:
    """Workers that do the jobs of one stage after another; made by ``workers``."""

    def __init__(self, executor: Executor, out: Path) -> None:
        self.executor = executor
        self.out = out

    def run(self, stage: str, jobs: Sequence[Job]) -> None:
        """Do jobs that are not done yet, none of which needs another, and show how far they are.

        Raises
        ------
        ReproductionError
            If a job fails; the others' files stay.
        """
        todo = [job for job in jobs if not job.file(self.out).exists()]
        if not todo:
            return
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task(stage, total=len(todo))
            with _workers_ignore_ctrl_c():
                running = {self.executor.submit(_do, job): job for job in todo}
            for done in as_completed(running):
                job = running[done]
                try:
                    problem, seconds = done.result()
                except BrokenProcessPool as exc:
                    raise ReproductionError(
                        job.name, "its process died, perhaps of memory; the same command goes on"
                    ) from exc
                if problem:
                    raise ReproductionError(job.name, problem)
                progress.advance(bar)
                if not console.is_terminal:
                    line = f"{stage}: {job.name}, {seconds:.1f} s"
                    console.print(line, soft_wrap=True, highlight=False)


@contextmanager
def workers(log_path: Path, out: Path, behaviours: int) -> Iterator[Pool]:
    """Start a process for each core, each of which trains with one thread, until the block ends.

    After an error no further job is started.
    """
    with ProcessPoolExecutor(
        torch.get_num_threads(),
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(log_path, out, behaviours),
    ) as executor:
        try:
            yield Pool(executor, out)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()
            raise


@contextmanager
def _workers_ignore_ctrl_c() -> Iterator[None]:
    """Let processes that are started here ignore SIGINT from their first instruction on.

    Ctrl-C reaches the whole group; the parent ends the workers, which say nothing of their own.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_SHOP: Workshop | None = None
_STOPPED = 128 + signal.SIGTERM


def _stop(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that a service that a job runs is stopped with it."""
    raise SystemExit(128 + number)


def _start_worker(log_path: Path, out: Path, behaviours: int) -> None:
    """Make this process's workshop."""
    global _SHOP
    signal.signal(signal.SIGTERM, _stop)
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _SHOP = Workshop(log_path, out, behaviours)


def _end_with_parent() -> None:
    """End this process when its parent is gone, however that ended: nobody waits for the job.

    Jobs leave their files whole or not at all, so that nothing is lost by it.
    """
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(_STOPPED)


def _do(job: Job) -> tuple[str, float]:
    """Do a job in a worker; return a foreseeable problem in words, and the seconds it took."""
    assert _SHOP is not None
    began = time.perf_counter()
    try:
        job.do(_SHOP)
    except GkcError as exc:
        return str(exc), 0.0
    return "", time.perf_counter() - began
