"""onnxruntime's sessions: loaded and run by threads of their own, for so long at most.

Whoever waits for a run can be interrupted, which nobody is whom onnxruntime itself holds. A run
that takes too long ends between two nodes of its graph. A node that does not end keeps its thread,
which only the end of the process ends: `are_stuck` tells.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Self, TypeVar

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from exporter.bundle import Bundle
from exporter.errors import BundleError
from exporter.features import Values

T = TypeVar("T")
_MOST_SECONDS: Final = 60.0
"""Of a run on one batch; real ones take milliseconds."""
_LOADS: Final = 10
"""How many times as long a model may take to load: some bring gigabytes."""
_LOOK_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 2.0
"""For what was told to end, which it does after the node that it is at."""
_THREADS: Final = "inference"
_FATAL: Final = 4

RUNTIME: Final = f"onnxruntime {ort.__version__}"
"""What computes the vectors; another release may give other last bits."""

ORT_ERRORS: Final[tuple[type[Exception], ...]] = tuple(
    e
    for e in vars(ort_errors).values()
    if isinstance(e, type) and issubclass(e, Exception) and e.__module__ == ort_errors.__name__
)
"""What onnxruntime raises; its exceptions have no common base."""

_SOURCE: Final = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|Load model from .*? failed:"
    r"|/\S+\.(?:cc|h):\d+ [^(]*\([^()]*\)(?: const)? "
    r"|\b\w+\.(?:cc|h):\d+ \w+ "
)
_NEW_OPSET: Final = re.compile(r"Opset (\d+) is under .*domain (\S+) is till opset (\d+)")
_NEW_IR: Final = re.compile(r"model IR version: (\d+), max supported IR version: (\d+)")


class InferenceError(Exception):
    """A model failed, or its output has the wrong form, at one row of a batch.

    ``row`` is the row's position in what was given to `Model.run`; None if no one row is to blame.
    """

    def __init__(self, row: int | None, problem: str) -> None:
        self.row = row
        self.problem = problem
        super().__init__(problem)


class Sessions:
    """Loads models and runs them in as many threads as this process may use cores.

    Parameters
    ----------
    threads : int, optional
        Rather than as many as there are cores.
    most_seconds : float
        How long one run may take.
    """

    def __init__(self, threads: int | None = None, *, most_seconds: float = _MOST_SECONDS) -> None:
        # Not every system tells which cores a process may use.
        allowed = getattr(os, "sched_getaffinity", None)
        cores = len(allowed(0)) if allowed else os.cpu_count()
        self._threads = ThreadPoolExecutor(threads or cores, thread_name_prefix=_THREADS)
        self._most_seconds = most_seconds
        self._options = ort.RunOptions()
        self._due: dict[int, tuple[float, str]] = {}
        """By thread, until when what it is at may take, and what it is if it takes longer."""
        self._end: InferenceError | None = None

    def __enter__(self) -> Self:
        """Return the sessions, which end with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs, and wait for it unless it does not end."""
        self.end("ended")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._due and time.monotonic() < deadline:
            time.sleep(0.01)
        self._threads.shutdown(wait=not self._due, cancel_futures=True)

    def load(self, bundle: Bundle, file: str) -> ort.InferenceSession:
        """Load a model of a bundle.

        Raises
        ------
        BundleError
            If it is none, or takes too long.
        """

        def load() -> ort.InferenceSession:
            with self._for_at_most(
                _LOADS * self._most_seconds, "to load", "a computation of constants"
            ):
                return _load(bundle, file)

        try:
            return self.result(self.submit(load))
        except InferenceError as exc:
            raise BundleError(file, exc.problem) from exc

    def run(
        self, session: ort.InferenceSession, output: str, inputs: Mapping[str, Values]
    ) -> object:
        """Return one output of a model; in one of our threads."""
        with self._for_at_most(self._most_seconds, "for one batch", "a loop"):
            return session.run([output], dict(inputs), self._options)[0]

    def submit(self, work: Callable[..., T], *args: object) -> Future[T]:
        """Have work done in one of our threads."""
        return self._threads.submit(work, *args)

    def result(self, future: Future[T]) -> T:
        """Wait for work, but not longer than any run may take.

        Raises
        ------
        InferenceError
            If a run takes too long, or all runs were ended.
        """
        while True:
            if self._end is not None:
                raise self._end
            try:
                return future.result(_LOOK_SECONDS)
            except TimeoutError:
                due, why = min(list(self._due.values()), default=(math.inf, ""))
                if time.monotonic() > due:
                    self.end(why)

    def end(self, why: str) -> None:
        """End all runs, and refuse others."""
        if self._end is None:
            self._end = InferenceError(None, why)
            self._options.terminate = True

    @contextmanager
    def _for_at_most(self, seconds: float, what: str, cause: str) -> Iterator[None]:
        why = (
            f"took longer than {seconds:g} seconds {what}, and may never end: "
            f"look for {cause} without an end in it"
        )
        self._due[threading.get_ident()] = time.monotonic() + seconds, why
        try:
            yield
        finally:
            del self._due[threading.get_ident()]

    @contextmanager
    def ended_by_errors(self) -> Iterator[None]:
        """End all runs if the block fails: nobody waits for them any more."""
        try:
            yield
        except BaseException:
            self.end("ended")
            raise


def are_stuck() -> bool:
    """Tell whether a run did not end when it was told to, so that its thread never will."""
    return any(thread.name.startswith(_THREADS) for thread in threading.enumerate())


def reason_of(exc: Exception) -> str:
    """Return what onnxruntime says, in one line and without the places in its own source."""
    return " ".join(_SOURCE.sub("", " ".join(str(exc).split())).split())


def _load(bundle: Bundle, file: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Batches run side by side, each in one thread: that keeps every core busy with batches small
    # enough for its cache, where one batch on all cores must be large.
    options.intra_op_num_threads = 1
    options.log_severity_level = _FATAL
    # Both keep memory for reuse that grows with the largest batch ever seen.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(
            str(bundle.path(file)), options, providers=["CPUExecutionProvider"]
        )
    except ORT_ERRORS as exc:
        raise BundleError(file, _why_not_loaded(reason_of(exc))) from exc


def _why_not_loaded(reason: str) -> str:
    """Say what onnxruntime will not load, and what to do, where the cause is a known one."""
    if opset := _NEW_OPSET.search(reason):
        return (
            f"is of opset {opset[1]}, and {RUNTIME} reads {opset[2]} up to "
            f"opset {opset[3]}: export it with opset_version={opset[3]} or lower"
        )
    if version := _NEW_IR.search(reason):
        return (
            f"is of ONNX IR version {version[1]}, and {RUNTIME} reads up to "
            f"{version[2]}: save it with ir_version={version[2]}, or by an older onnx package"
        )
    return f"is no model that onnxruntime can load: {reason}"
