"""Where a reproduction works: its folder, its log, and what a process keeps of both in memory."""

from __future__ import annotations

import dataclasses
import fcntl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow.parquet as pq

from gkc.arrays import F32
from keep.atomic import read_json, write_json
from keep.bundle import bundle
from keep.checkpoint import Pretraining, holds_checkpoint, load_checkpoint, save_checkpoint
from keep.config import DistillationConfig, PretrainConfig
from keep.data import Data, Samples
from keep.distillation import distil
from keep.errors import ProblemError
from keep.knowledge import knowledge_of, student_knowledge, teacher_logits, teacher_spans
from keep.log import Day, Log, open_log
from keep.models import score_clicks
from keep.pretraining import start, train_day
from keep.serving import served_knowledge
from keep.systems.plugged import Knowledge
from keep.to_onnx import bundled_models

T = TypeVar("T")

REMEMBERED = 4
"""How many things of a kind stay in memory: the days of two pretrainings, for example."""
TEACHER, STUDENTS = ("teacher",), ("two_tower", "category")
"""Models of a pretraining, by name."""


class WorkshopError(ProblemError):
    """A folder that cannot be worked in."""


@dataclasses.dataclass(frozen=True)
class PretrainingPlan:
    """One pretraining: what is learned, from which days, with which settings."""

    name: str
    """Its folder below ``work/pretrain``."""
    models: tuple[str, ...]
    config: PretrainConfig
    window: int = 0
    """Latest days learned from; 0 for all."""
    permuted: bool = False
    """Whether each day's labels are permuted first: a control that can learn no taste."""
    freeze: DistillationConfig | None = None
    """How its students are distilled after the last day, if they are."""

    @classmethod
    def with_students(
        cls, name: str, config: PretrainConfig, values: Mapping[str, Any]
    ) -> PretrainingPlan:
        """Plan teacher and students, changed by one of ``keep.reproduce.presets.VARIANTS``."""
        changes = dict(values)
        freeze = changes.pop("freeze", None)
        settings = None if freeze is None else DistillationConfig(**freeze)
        tuned = dataclasses.replace(config, **changes)
        return cls(name, (*TEACHER, *STUDENTS), tuned, freeze=settings)

    @property
    def served(self) -> str:
        """Name the folder of its students as they are served."""
        return self.name if self.freeze is None else _distilled(self.name)


def _distilled(name: str) -> str:
    return f"{name}-distilled"


def click_logits(state: Pretraining, day: Day) -> F32:
    """Score n impressions by the teacher's click task, with behaviours up to its day: (n,)."""
    return score_clicks(state.models.teacher, state.features.encode(day), state.features)


def labels_permuted(day: Day, number: int) -> Day:
    """Permute a day's labels over its impressions, those of an impression together.

    What users did before, as it is learned from such days, is permuted with them. The day's number
    fixes the chance.
    """
    order = np.random.default_rng(number).permutation(len(day))
    labels = {name: getattr(day, name)[order] for name in ("click", "cart", "conversion")}
    return dataclasses.replace(day, **labels)


class Workshop:
    """A reproduction's folder and log, with what one process has read of them."""

    def __init__(self, log_path: Path, out: Path, behaviours: int) -> None:
        self.log: Log = open_log(log_path)
        self.out = out
        self.behaviours = behaviours
        self._run_file = out / "work" / "run.json"
        self._seconds_file = out / "work" / "seconds.json"
        self._memory: dict[tuple[object, ...], Any] = {}
        self._lock_file: IO[str] | None = None

    @property
    def version_day(self) -> int:
        """The day that all knowledge is frozen at."""
        return self.log.info.pretrain_until

    def claim(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Make the folder this run's, or go on with its run; return what was noted before.

        ``facts`` are JSON values that the run of a folder never changes: the log's checksum, for
        example.

        Raises
        ------
        WorkshopError
            If the folder is another run's, holds something else, or another process works in it.
        """
        noted = read_json(self._run_file)
        for name, value in facts.items():
            if noted and noted.get(name) != value:
                raise WorkshopError(
                    self.out,
                    f"was begun with {name} {noted.get(name)}, not {value}; name another --out",
                )
        if not noted and self.out.exists() and any(self.out.iterdir()):
            raise WorkshopError(self.out, "is not empty; name another --out")
        self._lock()
        self.note({**noted, **facts})
        return noted

    def _lock(self) -> None:
        """Keep other processes out until this one closes the workshop, or ends."""
        self._run_file.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = (self._run_file.parent / "lock").open("a")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self.close()
            problem = "another process is at work in it; wait for it, or stop it"
            raise WorkshopError(self.out, problem) from exc

    def close(self) -> None:
        """Let other processes work in the folder again."""
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write down what run the folder is."""
        write_json(self._run_file, facts)

    @property
    def seconds(self) -> float:
        """What all ``timed`` work in the folder took."""
        total: float = read_json(self._seconds_file).get("seconds", 0.0)
        return total

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time of a block, also of one that fails, to that of earlier processes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.seconds + time.perf_counter() - began
            write_json(self._seconds_file, {"seconds": seconds})

    @cached_property
    def has_truth(self) -> bool:
        """Whether the log comes with its ground truth, as simulated ones do."""
        return self._truth_file(self.log.info.test_day).exists()

    def data(self, test_day: int) -> Data:
        """Prepare the log for models that are tested on a day; kept in memory."""
        return self.remember(("data", test_day), lambda: Data(self.log, test_day, self.behaviours))

    def truth(self, test: Samples) -> F32:
        """Read the simulator's click logits of a sub-domain's day, (n,), without their noise.

        No model can know more.
        """
        score = np.array(pq.read_table(self._truth_file(test.number)).column("score"))
        day = self.log.day(test.number)
        scores: F32 = score[day.sub_domain].astype(np.float32)
        return scores

    def _truth_file(self, day: int) -> Path:
        return self.log.path / "truth" / f"day={day:04d}.parquet"

    def pretrain(self, plan: PretrainingPlan) -> None:
        """Pretrain up to the version's day, or go on where a killed process stopped."""
        days = [day for day in self.log.info.days if day <= self.version_day]
        path = self.checkpoint(plan.name)
        change = labels_permuted if plan.permuted else None
        self.pretrain_days(path, days[-plan.window :], plan.config, plan.models, change=change)
        if plan.freeze is not None:
            students = distil(self.state(plan.name), self.log, plan.freeze)
            save_checkpoint(students, self.checkpoint(plan.served))

    def pretrain_days(
        self,
        path: Path,
        days: Sequence[int],
        config: PretrainConfig,
        models: Sequence[str],
        kept: Sequence[int] = (),
        change: Callable[[Day, int], Day] | None = None,
    ) -> None:
        """Pretrain day by day, or go on after the day of the checkpoint at ``path``.

        The states after some days are also ``kept`` beside it, each below its day's number. Days
        may be changed first, by what takes a day and its number.
        """
        state = load_checkpoint(path) if holds_checkpoint(path) else None
        for number in days:
            if state is not None and number <= state.day:
                continue
            day = self.log.day(number)
            if change is not None:
                day = change(day, number)
            if state is None:
                state = start(day, config, models, self.log.info.string_ids)
            train_day(state, number, day)
            if number in kept:
                save_checkpoint(state, path.with_name(str(number)))
            save_checkpoint(state, path)

    def teacher_of(self, seed: int) -> str:
        """Name the pretraining that has a seed's teacher: with the students where they are needed.

        The teacher is the same either way.
        """
        both = f"students-{seed}"
        return both if holds_checkpoint(self.checkpoint(both)) else f"teacher-{seed}"

    def students_of(self, seed: int) -> str:
        """Name the folder of a seed's students as they are served: distilled ones, if there are."""
        name = f"students-{seed}"
        return _distilled(name) if holds_checkpoint(self.checkpoint(_distilled(name))) else name

    def state(self, name: str) -> Pretraining:
        """Load a pretraining; the latest ones stay in memory."""
        return self.remember(("state", name), lambda: load_checkpoint(self.checkpoint(name)))

    def checkpoint(self, name: str) -> Path:
        """Name the folder of a pretraining."""
        return self.out / "work" / "pretrain" / name

    def teacher_knowledge(self, name: str, parts: Sequence[str]) -> Knowledge:
        """Read parts of the teacher's knowledge: ``user``, ``item`` and tasks, equation 4."""
        spans = teacher_spans(self.state(name).config)

        def knowledge(samples: Samples) -> F32:
            rows = self._read(name, samples, self._teacher_rows)
            return np.concatenate([rows[:, slice(*spans[part])] for part in parts], axis=1)

        return knowledge

    def teacher_logits(self, name: str, task: int | None = None) -> Knowledge:
        """Read the teacher's logits of the three tasks, or of one: (n, 3) or (n, 1)."""
        columns = slice(None) if task is None else slice(task, task + 1)

        def knowledge(samples: Samples) -> F32:
            rows = self._read(name, samples, self._teacher_rows)
            return teacher_logits(self.state(name), rows)[:, columns]

        return knowledge

    def teacher_trained_on(self, name: str, days: Sequence[int]) -> Pretraining:
        """Load a pretraining's teacher, without its students, and train it on further days."""
        state = load_checkpoint(self.checkpoint(name))
        for student in {*STUDENTS} & {*state.optimizers}:
            del state.optimizers[student]
            delattr(state.models, student)
        for number in days:
            train_day(state, number, self.log.day(number))
        return state

    def logit_weights(self, name: str) -> F32:
        """Read how each task weighs the students' K_u * K_i: (T, D)."""
        weights: F32 = self.state(name).models.two_tower.logit_weights.numpy()
        return weights

    def student_knowledge(self, name: str, columns: slice) -> Knowledge:
        """Read columns of the students' rows, equation 6."""

        def knowledge(samples: Samples) -> F32:
            return self._read(name, samples, self._student_rows)[:, columns]

        return knowledge

    def _read(self, name: str, samples: Samples, rows: Callable[[str, Samples], F32]) -> F32:
        """Compute rows of a pretraining's knowledge, or find them in memory.

        All samples are a sub-domain's day or its clicks, so that day and length tell which.
        """
        key = ("rows", rows.__name__, name, samples.number, len(samples))
        return self.remember(key, lambda: rows(name, samples))

    def _teacher_rows(self, name: str, samples: Samples) -> F32:
        return knowledge_of(self.state(name), samples.day)

    def _student_rows(self, name: str, samples: Samples) -> F32:
        return student_knowledge(self.state(name), *samples.day.ids)

    def remember(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """Return what was made for a key before, or make it.

        A few of each kind, the key's first word, stay in memory.
        """
        if key not in self._memory:
            same = [other for other in self._memory if other[0] == key[0]]
            if len(same) >= REMEMBERED:
                del self._memory[same[0]]
            self._memory[key] = make()
        value: T = self._memory[key]
        return value

    @contextmanager
    def served(self, name: str, dtype: str) -> Iterator[tuple[Knowledge, Knowledge]]:
        """Export the students of a pretraining, serve them, and answer from the service.

        Gives rows as served, and as the bundle's models compute them, vectors rounded to f16.
        """
        state = self.state(name)
        with tempfile.TemporaryDirectory(prefix="gkc-reproduce-") as work:
            folder = Path(work) / "bundle"
            bundle(state, self.log, folder)
            models = bundled_models(folder)
            with served_knowledge(folder, Path(work), dtype, self.log.named) as answer:
                yield (
                    lambda samples: answer(*samples.day.ids),
                    lambda samples: student_knowledge(
                        state, *samples.day.ids, as_stored=True, models=models
                    ),
                )
