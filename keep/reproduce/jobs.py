"""The pieces of a reproduction: each is done once, leaves a file, and needs one process.

A job whose file exists is done. Files are written whole or not at all, so that a killed run goes
on where it stopped. Jobs are plain values: they travel to worker processes.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from gkc.arrays import F32
from keep.config import PretrainConfig
from keep.data import Data, Samples
from keep.gauc import gauc
from keep.models import score_clicks
from keep.recipes.evaluate import popularity
from keep.reproduce.plan import ALL_DAYS, PRODUCTION, WHOLE, Run
from keep.reproduce.predictions import write_predictions
from keep.reproduce.workshop import Pretrained, Workshop, read_json, write_json
from keep.systems import base
from keep.systems.keep import KeepRanker, Knowledge
from keep.systems.training import Ranker

SELF_SUPERVISED = ("bert4rec", "s3rec")
"""Systems that pretrain an encoder of their own."""


@dataclass(frozen=True)
class Pretrain:
    """Pretrain teacher or students."""

    wanted: Pretrained

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"pretrain {self.wanted.name}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return out / "work" / "pretrain" / f"{self.wanted.name}.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        began = time.perf_counter()
        shop.pretrain(self.wanted)
        seconds = time.perf_counter() - began
        write_json(self.file(shop.out), {"seconds": seconds, **dataclasses.asdict(self.wanted)})


@dataclass(frozen=True)
class Encode:
    """Pretrain the encoder of a self-supervised system."""

    system: str
    seed: int
    test_day: int

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"pretrain {self.system}, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return encoder_file(out, self.system, self.seed)

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        module, data = system_module(self.system), shop.data(self.test_day)
        days = [day for day in data.days if day <= shop.version_day]
        encoder = module.pretrain(data, days, chosen_options(shop.out, self.system), self.seed)
        file = self.file(shop.out)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(encoder, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)


@dataclass(frozen=True)
class PretrainTrial:
    """Measure a pretraining's settings: the teacher's click logit on the tuning day."""

    wanted: Pretrained

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"tune {self.wanted.name}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return out / "work" / "tuning" / f"{self.wanted.name}.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        day = shop.log.info.train_days[-1]
        test = shop.data(day).sub_domain(day)
        value = _gauc(test, teacher_scores(shop, self.wanted.name, test))
        trial = {
            "method": "pretraining",
            "options": dataclasses.asdict(self.wanted.config),
            "seed": self.wanted.config.seed,
            "day": day,
            "gauc": value,
        }
        write_json(self.file(shop.out), trial)


@dataclass(frozen=True)
class Trial:
    """Train a system with some options before the tuning day, and rank that day."""

    method: str
    """Under which name the trial is logged: a system's, or a variant's."""
    system: str
    index: int
    options: base.Options
    seed: int
    knowledge: str = ""
    """For KEEP, as in ``Run``."""
    pretrained: str = ""
    """For KEEP: which pretraining."""

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"tune {self.method} {self.index + 1}, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        folder = self.method.replace(" ", "-").replace(",", "")
        return out / "work" / "tuning" / folder / f"{self.index:02d}-{self.seed}.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        *days, day = shop.log.info.train_days
        data = shop.data(day)
        knowledge = None
        if self.system == "keep":
            knowledge = read_knowledge(shop, self.knowledge, self.pretrained, self.pretrained)
        began = time.perf_counter()
        ranker = train(shop, data, days, self.system, self.options, self.seed, 0, knowledge)
        test = data.sub_domain(day)
        trial = {
            "method": self.method,
            "options": dataclasses.asdict(self.options),
            "seed": self.seed,
            "day": day,
            "gauc": _gauc(test, ranker.score(test)),
            "seconds": time.perf_counter() - began,
        }
        write_json(self.file(shop.out), trial)


@dataclass(frozen=True)
class Test:
    """Train a run with the options found, and score the test day."""

    run: Run
    seed: int

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"{self.run.name}, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return out / "work" / "runs" / self.run.name / f"{self.seed}.parquet"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        day = shop.log.info.test_day
        test = shop.data(day).sub_domain(day).of_task(self.run.task)
        scores = test_scores(shop, self.run, self.seed, test)
        label = test.rows.labels[:, self.run.task]
        write_predictions(self.file(shop.out), test.day.user, test.day.item, label, scores)


Job = Pretrain | Encode | PretrainTrial | Trial | Test


def test_scores(shop: Workshop, run: Run, seed: int, test: Samples) -> F32:
    """Train a run and rank the test day; nothing is chosen here.

    Parameters
    ----------
    shop : Workshop
        The reproduction.
    run : Run
        What is trained, and on which days.
    seed : int
        Of everything that involves chance, pretraining included.
    test : Samples
        n impressions of the test day.

    Returns
    -------
    ndarray, shape (n,), float32
        Scores.
    """
    if run.system == "oracle":
        return shop.truth(test)
    if run.system == "item_rate":
        return popularity(shop.log, shop.version_day, test.day)
    if run.system == "teacher":
        return teacher_scores(shop, shop.teacher_of(seed), test)
    if run.knowledge in ("f16", "int8"):
        ranker = shop.kept(
            ("ranker", seed),
            lambda: _train_run(shop, dataclasses.replace(run, knowledge="both"), seed),
        )
        assert isinstance(ranker, KeepRanker)
        with shop.served(f"students-{seed}", run.knowledge) as served:
            rows = served.answer(test)
            if run.knowledge == "f16":
                equal = int(np.count_nonzero(rows == served.offline(test)))
                write_json(served_file(shop.out, seed), {"numbers": rows.size, "equal": equal})
            return ranker.score(test, lambda _: rows)
    if run.knowledge == "both":
        return shop.kept(("ranker", seed), lambda: _train_run(shop, run, seed)).score(test)
    return _train_run(shop, run, seed).score(test)


def _train_run(shop: Workshop, run: Run, seed: int) -> Ranker:
    info = shop.log.info
    data = shop.data(info.test_day)
    options = chosen_options(shop.out, run.system)
    days = data.days if run.days == ALL_DAYS else info.train_days
    if run.system != "keep":
        return train(shop, data, days, run.system, options, seed, run.task)
    teacher = f"teacher-{seed}-latest{run.window}" if run.window else shop.teacher_of(seed)
    names = (teacher, f"students-{seed}")
    knowledge = read_knowledge(shop, run.knowledge, *names, run.parts)
    start = None
    if run.days == PRODUCTION:
        start = shop.kept(
            ("start", seed, run.task), lambda: _until_version(shop, data, seed, run.task)
        )
    return train(shop, data, days, "keep", options, seed, run.task, knowledge, start)


def _until_version(shop: Workshop, data: Data, seed: int, task: int) -> base.Base:
    """Train Base on the sub-domain up to the version's day: the checkpoint to plug into."""
    days = [day for day in data.days if day <= shop.version_day]
    options = chosen_options(shop.out, "base")
    return base.train(data, days, options, seed, task).model


def train(
    shop: Workshop,
    data: Data,
    days: Sequence[int],
    system: str,
    options: base.Options,
    seed: int,
    task: int = 0,
    knowledge: Knowledge | None = None,
    start: base.Base | None = None,
) -> Ranker:
    """Train one of the systems.

    Parameters
    ----------
    shop : Workshop
        Holds the encoders of the self-supervised systems.
    data : Data
        The log, for one tested day.
    days : sequence of int
        Training days.
    system : str
        A module of ``keep.systems``.
    options : base.Options
        The system's own.
    seed : int
        Of weights and order.
    task : int
        What is predicted.
    knowledge, start : optional
        For KEEP: what is plugged in, and the checkpoint that it is plugged into.

    Returns
    -------
    Ranker
        Trained.
    """
    module = system_module(system)
    extra: dict[str, Any] = {}
    if system in SELF_SUPERVISED:
        extra["encoder"] = torch.load(encoder_file(shop.out, system, seed), weights_only=False)
    if system == "keep":
        extra = {"knowledge": knowledge, "start": start}
    if system == "keep_c":
        extra["pretraining"] = chosen_pretraining(shop.out, seed)
    ranker: Ranker = module.train(data, days, options, seed, task, **extra)
    return ranker


def read_knowledge(
    shop: Workshop,
    source: str,
    teacher: str,
    students: str,
    parts: Sequence[str] = WHOLE,
) -> Knowledge:
    """Find the knowledge that a run plugs in.

    Parameters
    ----------
    shop : Workshop
        Holds the pretrainings.
    source : str
        ``teacher``, ``decomposition``, ``degeneration`` or ``both``.
    teacher, students : str
        Names of pretrainings.
    parts : sequence of str
        Of the teacher's knowledge.

    Returns
    -------
    Knowledge
        Rows of given impressions.

    References
    ----------
    KEEP (CIKM'22), equations 4 and 6, table 8.
    """
    if source == "teacher":
        return shop.teacher_knowledge(teacher, parts)
    width = 3 * shop.state(students).config.dim
    if source == "decomposition":
        return shop.student_knowledge(students, slice(0, width))
    if source == "both":
        return shop.student_knowledge(students, slice(None))
    own = shop.teacher_knowledge(teacher, ("user", "item"))
    category = shop.student_knowledge(students, slice(width, None))

    def degeneration(samples: Samples) -> F32:
        return np.concatenate([own(samples), category(samples)], axis=1)

    return degeneration


def teacher_scores(shop: Workshop, name: str, test: Samples) -> F32:
    """Rank by the teacher's own click logit, with behaviours up to the version's day.

    Parameters
    ----------
    shop : Workshop
        Holds the pretraining.
    name : str
        Its name.
    test : Samples
        n impressions.

    Returns
    -------
    ndarray, shape (n,), float32
        s_ui of the click task.
    """
    state = shop.state(name)
    rows = state.features.encode(test.day)
    return score_clicks(state.models.teacher, rows, state.features)


def system_module(system: str) -> ModuleType:
    """Import a module of ``keep.systems`` by its name."""
    return importlib.import_module(f"keep.systems.{system}")


def served_file(out: Path, seed: int) -> Path:
    """Name the file that says how many numbers came through the service in f16 to the bit."""
    return out / "work" / "served" / f"{seed}.json"


def encoder_file(out: Path, system: str, seed: int) -> Path:
    """Name the file of a self-supervised system's encoder."""
    return out / "work" / "encoders" / f"{system}-{seed}.pt"


def chosen_options(out: Path, system: str) -> base.Options:
    """Read the options that tuning chose for a system.

    Parameters
    ----------
    out : Path
        The reproduction's folder.
    system : str
        A module of ``keep.systems``.

    Returns
    -------
    base.Options
        The system's own class; its defaults before it was tuned.
    """
    values = read_json(out / "work" / "chosen.json").get(system, {})
    options: base.Options = system_module(system).Options(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    )
    return options


def chosen_pretraining(out: Path, seed: int) -> PretrainConfig:
    """Read the settings that tuning chose for pretraining, with another seed.

    Parameters
    ----------
    out : Path
        The reproduction's folder.
    seed : int
        Of the pretraining.

    Returns
    -------
    PretrainConfig
        Settings.
    """
    values = read_json(out / "work" / "chosen.json").get("pretraining", {})
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return PretrainConfig(**{**values, "seed": seed})


def _gauc(test: Samples, scores: F32) -> float:
    return gauc(test.day.user, test.day.click, scores).value
