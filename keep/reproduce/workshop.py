"""Where a reproduction works: its folder, its log, and what a process keeps of both in memory."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gkc.arrays import F32
from gkc.errors import GkcError
from keep.checkpoint import Pretraining, holds_checkpoint, load_checkpoint, save_checkpoint
from keep.config import PretrainConfig
from keep.data import Data, Samples
from keep.knowledge import knowledge_of, student_knowledge, teacher_spans
from keep.log import Log, open_log
from keep.recipes.bundle import bundle
from keep.recipes.pretrain import start, train_day
from keep.recipes.served import served_knowledge
from keep.systems.keep import Knowledge
from keep.to_onnx import bundled_models

Ints = NDArray[np.int64]
T = TypeVar("T")

KEPT = 4
"""How many things of a kind a process keeps: the days of two pretrainings, for example."""
TEACHER, STUDENTS = ("teacher",), ("two_tower", "category")
"""Models of a pretraining, by name."""


class WorkshopError(GkcError):
    """A folder that cannot be worked in.

    Parameters
    ----------
    out : Path
        The folder.
    problem : str
        What is wrong and what to do.
    """

    def __init__(self, out: Path, problem: str) -> None:
        self.out = out
        self.problem = problem
        super().__init__(f"{out}: {problem}")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """One pretraining: what is learned, from which days, with which settings."""

    name: str
    """Its folder below ``work/pretrain``."""
    models: tuple[str, ...]
    config: PretrainConfig
    window: int = 0
    """Latest days learned from; 0 for all."""


class Served(NamedTuple):
    """Knowledge that went through exporter, store and service, and what it should be."""

    answer: Knowledge
    """Rows as served."""
    offline: Knowledge
    """Rows as the bundle's models compute them, vectors rounded to f16."""


class Workshop:
    """A reproduction's folder and log, with what one process has read of them.

    Parameters
    ----------
    log_path : Path
        The log.
    out : Path
        The reproduction's folder.
    behaviours : int
        How many clicks every model sees of a user.

    Attributes
    ----------
    log : Log
        Opened.
    """

    def __init__(self, log_path: Path, out: Path, behaviours: int) -> None:
        self.log: Log = open_log(log_path)
        self.out = out
        self.behaviours = behaviours
        self._kept: dict[tuple[object, ...], Any] = {}
        self._held: IO[str] | None = None

    @property
    def version_day(self) -> int:
        """The day that all knowledge is frozen at."""
        return self.log.info.pretrain_until

    def claim(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Make the folder this run's, or go on with the run that it is.

        Parameters
        ----------
        facts : mapping
            JSON values that the run of a folder never changes: the log's checksum, for example.

        Returns
        -------
        dict
            What was noted before, more than ``facts`` perhaps; empty in a new folder.

        Raises
        ------
        WorkshopError
            If the folder is another run's, holds something else, or another process works in it.
        """
        found = read_json(self._run_file)
        for name, value in facts.items():
            if found and found.get(name) != value:
                raise WorkshopError(
                    self.out,
                    f"was begun with {name} {found.get(name)}, not {value}; name another --out",
                )
        if not found and self.out.exists() and any(self.out.iterdir()):
            raise WorkshopError(self.out, "is not empty; name another --out")
        self._lock()
        self.note({**found, **facts})
        return found

    def _lock(self) -> None:
        """Keep other processes out until this one closes the workshop, or ends."""
        self._run_file.parent.mkdir(parents=True, exist_ok=True)
        self._held = (self._run_file.parent / "lock").open("a")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self.close()
            problem = "another process is at work in it; wait for it, or stop it"
            raise WorkshopError(self.out, problem) from exc

    def close(self) -> None:
        """Let other processes work in the folder again."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write down what run the folder is."""
        write_json(self._run_file, facts)

    @property
    def _run_file(self) -> Path:
        return self.out / "work" / "run.json"

    def add_seconds(self, seconds: float) -> float:
        """Add this process's time to that of the earlier ones; return the sum."""
        file = self.out / "work" / "seconds.json"
        total: float = read_json(file).get("seconds", 0.0) + seconds
        write_json(file, {"seconds": total})
        return total

    @cached_property
    def has_truth(self) -> bool:
        """Whether the log comes with its ground truth, as simulated ones do."""
        return self._truth_file(self.log.info.test_day).exists()

    def data(self, test_day: int) -> Data:
        """Prepare the log for models that are tested on a day; kept in memory.

        Parameters
        ----------
        test_day : int
            The log's test day, or the tuning day.

        Returns
        -------
        Data
            The same object for the same day.
        """
        return self.kept(("data", test_day), lambda: Data(self.log, test_day, self.behaviours))

    def truth(self, test: Samples) -> F32:
        """Read the simulator's click logits without their noise: no model can know more.

        Parameters
        ----------
        test : Samples
            All impressions of the sub-domain on a day.

        Returns
        -------
        ndarray, shape (n,), float32
            Scores of the oracle.
        """
        score = np.array(pq.read_table(self._truth_file(test.number)).column("score"))
        day = self.log.day(test.number)
        scores: F32 = score[day.sub_domain].astype(np.float32)
        return scores

    def _truth_file(self, day: int) -> Path:
        return self.log.path / "truth" / f"day={day:04d}.parquet"

    def pretrain(self, wanted: Pretrained) -> None:
        """Pretrain up to the version's day, or go on where a killed process stopped.

        Parameters
        ----------
        wanted : Pretrained
            What is learned.
        """
        path = self._checkpoint(wanted.name)
        state = load_checkpoint(path) if holds_checkpoint(path) else None
        days = [day for day in self.log.info.days if day <= self.version_day]
        for number in days[-wanted.window :]:
            if state is not None and number <= state.day:
                continue
            day = self.log.day(number)
            state = start(day, wanted.config, wanted.models) if state is None else state
            train_day(state, number, day)
            save_checkpoint(state, path)

    def teacher_of(self, seed: int) -> str:
        """Name the pretraining that has a seed's teacher: with the students where they are needed.

        Parameters
        ----------
        seed : int
            A reported one.

        Returns
        -------
        str
            As in ``Pretrained``; the teacher is the same either way.
        """
        both = f"students-{seed}"
        return both if holds_checkpoint(self._checkpoint(both)) else f"teacher-{seed}"

    def state(self, name: str) -> Pretraining:
        """Load a pretraining; the latest ones stay in memory.

        Parameters
        ----------
        name : str
            As in ``Pretrained``.

        Returns
        -------
        Pretraining
            After the version's day.
        """
        return self.kept(("state", name), lambda: load_checkpoint(self._checkpoint(name)))

    def _checkpoint(self, name: str) -> Path:
        return self.out / "work" / "pretrain" / name

    def teacher_knowledge(self, name: str, parts: Sequence[str]) -> Knowledge:
        """Read parts of the teacher's knowledge.

        Parameters
        ----------
        name : str
            A pretraining that has a teacher.
        parts : sequence of str
            Some of ``user``, ``item`` and the tasks, equation 4.

        Returns
        -------
        Knowledge
            Rows of the impressions it is given.
        """
        spans = teacher_spans(self.state(name).config)

        def knowledge(samples: Samples) -> F32:
            rows = self._read(name, samples, self._teacher_rows)
            return np.concatenate([rows[:, slice(*spans[part])] for part in parts], axis=1)

        return knowledge

    def student_knowledge(self, name: str, columns: slice) -> Knowledge:
        """Read a part of the students' rows.

        Parameters
        ----------
        name : str
            A pretraining that has the students.
        columns : slice
            Of the row of equation 6.

        Returns
        -------
        Knowledge
            Rows of the impressions it is given.
        """

        def knowledge(samples: Samples) -> F32:
            return self._read(name, samples, self._student_rows)[:, columns]

        return knowledge

    def _read(self, name: str, samples: Samples, rows: Callable[[str, Samples], F32]) -> F32:
        """Compute rows of a pretraining's knowledge, or find them in memory.

        All samples are a sub-domain's day or its clicks, so that day and length tell which.
        """
        key = ("rows", rows.__name__, name, samples.number, len(samples))
        return self.kept(key, lambda: rows(name, samples))

    def _teacher_rows(self, name: str, samples: Samples) -> F32:
        day = samples.day
        return knowledge_of(self.state(name), day.user, day.item, day.shop, day.category)

    def _student_rows(self, name: str, samples: Samples) -> F32:
        return student_knowledge(self.state(name), *_ids(samples))

    def kept(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """Return what was made for a key before, or make it; a few of each kind are kept.

        Parameters
        ----------
        key : tuple
            Its first word is the kind.
        make : callable
            Makes it.

        Returns
        -------
        object
            What ``make`` returned, now or earlier.
        """
        if key not in self._kept:
            same = [other for other in self._kept if other[0] == key[0]]
            if len(same) >= KEPT:
                del self._kept[same[0]]
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    @contextmanager
    def served(self, name: str, dtype: str) -> Iterator[Served]:
        """Export the students of a pretraining, serve them, and answer from the service.

        Parameters
        ----------
        name : str
            A pretraining that has the students.
        dtype : str
            Element type of the store.

        Yields
        ------
        Served
            Ends with the block.
        """
        state = self.state(name)
        with tempfile.TemporaryDirectory(prefix="gkc-reproduce-") as work:
            folder = Path(work) / "bundle"
            with redirect_stdout(StringIO()):  # the bundle's report, once per seed
                bundle(state, self.log, folder)
            models = bundled_models(folder)
            with served_knowledge(folder, Path(work), dtype) as answer:
                yield Served(
                    lambda samples: answer(*_ids(samples)),
                    lambda samples: student_knowledge(
                        state, *_ids(samples), as_stored=True, models=models
                    ),
                )


def _ids(samples: Samples) -> tuple[Ints, Ints, Ints]:
    return samples.day.user, samples.day.item, samples.day.category


def read_json(path: Path) -> dict[str, Any]:
    """Read what a stage left.

    Parameters
    ----------
    path : Path
        A JSON file.

    Returns
    -------
    dict
        Its content; empty if it is not there yet.
    """
    if not path.exists():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    values : mapping
        JSON values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
