"""The pieces of a reproduction: each is done once, leaves a file, and needs one process.

A job whose file exists is done. Files are written whole or not at all, so that a killed run goes
on where it stopped. Jobs are plain values: they travel to worker processes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from gkc.arrays import F32
from gkc.knowledge import PARTS, part_spans
from keep.atomic import read_json, replaced, write_json
from keep.config import TASKS, PretrainConfig
from keep.data import Data, Samples
from keep.gauc import gauc
from keep.knowledge import logits_and_category
from keep.reproduce.controls import CONTROLS
from keep.reproduce.plan import ALL_DAYS, PLUG_INS, PRODUCTION, WHOLE, Run
from keep.reproduce.predictions import write_predictions
from keep.reproduce.workshop import PretrainingPlan, Workshop, click_logits
from keep.systems import base, transformer
from keep.systems.plugged import KeepRanker, Knowledge, Plugged
from keep.systems.registry import SYSTEMS
from keep.systems.system import Ranker, Training
from keep.systems.transformer import Encoder, load_encoder, save_encoder


@dataclass(frozen=True)
class Pretrain:
    """Pretrain teacher or students."""

    plan: PretrainingPlan

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"pretrain {self.plan.name}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return out / "work" / "pretrain" / f"{self.plan.name}.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        began = time.perf_counter()
        shop.pretrain(self.plan)
        seconds = time.perf_counter() - began
        write_json(self.file(shop.out), {"seconds": seconds, **dataclasses.asdict(self.plan)})


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
        pretrain, data = SYSTEMS[self.system].pretrain, shop.data(self.test_day)
        assert pretrain is not None
        days = [day for day in data.days if day <= shop.version_day]
        options = chosen_options(shop.out, self.system)
        assert isinstance(options, transformer.Options)
        encoder = pretrain(data, days, options, self.seed)
        assert isinstance(encoder, Encoder)
        with replaced(self.file(shop.out)) as temporary:
            save_encoder(encoder, options, temporary)


@dataclass(frozen=True)
class PretrainTrial:
    """Measure a pretraining's settings: the teacher's click logit on the tuning day."""

    plan: PretrainingPlan

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"tune {self.plan.name}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return out / "work" / "tuning" / f"{self.plan.name}.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        day = shop.log.info.train_days[-1]
        test = shop.data(day).sub_domain(day)
        scores, config = click_logits(shop.state(self.plan.name), test.day), self.plan.config
        trial = _trial("pretraining", config, config.seed, test, scores)
        write_json(self.file(shop.out), trial)


@dataclass(frozen=True)
class Trial:
    """Train a system with some options before the tuning day, and rank that day."""

    method: str
    """Under which name the trial is logged: a system's, or a variant's."""
    system: str
    index: int
    options: Training
    seed: int
    knowledge: str = ""
    """For a system that is plugged in, as in ``Run``."""
    pretraining: str = ""
    """For such a system: which pretraining."""

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"tune {self.method} {self.index + 1}, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return self.predictions(out).with_suffix(".json")

    def predictions(self, out: Path) -> Path:
        """Name the file with what it said of the tuning day."""
        return trial_predictions(out, self.method, self.index, self.seed)

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        *days, day = shop.log.info.train_days
        data = shop.data(day)
        source = Source(self.pretraining, self.pretraining)
        plugged = Plugged(KNOWLEDGE[self.knowledge](shop, source)) if self.knowledge else None
        began = time.perf_counter()
        side_input = side_input_of(shop, self.system, self.seed, plugged)
        system = SYSTEMS[self.system]
        ranker = system.train(data, days, self.options, self.seed, side_input=side_input)
        test = data.sub_domain(day)
        scores = ranker.score(test)
        write_predictions(
            self.predictions(shop.out), test.day.user, test.day.item, test.day.click, scores
        )
        trial = _trial(self.method, self.options, self.seed, test, scores)
        write_json(self.file(shop.out), {**trial, "seconds": time.perf_counter() - began})


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


def test_scores(shop: Workshop, run: Run, seed: int, test: Samples) -> F32:
    """Train a run and rank n impressions of the test day: (n,); nothing is chosen here."""
    if run.system in CONTROLS:
        return CONTROLS[run.system].score(shop, seed, test)
    if run.served:
        return _served_scores(shop, run, seed, test)
    if run.knowledge in ("both", "both_logits"):
        return _to_serve(shop, run, seed).score(test)
    return _train(shop, run, seed).score(test)


def _served_scores(shop: Workshop, run: Run, seed: int, test: Samples) -> F32:
    """Rank by what the service answers in place of both students' vectors."""
    ranker = _to_serve(shop, dataclasses.replace(run, served=""), seed)
    assert isinstance(ranker, KeepRanker)
    students = shop.students_of(seed)
    rows = shop.remember(("served", seed, run.served), lambda: _answers(shop, run, seed, test))
    if run.knowledge == "both_logits":
        rows = logits_and_category(rows, shop.logit_weights(students))
    return ranker.score(test, lambda _: rows)


def _answers(shop: Workshop, run: Run, seed: int, test: Samples) -> F32:
    with shop.served(shop.students_of(seed), run.served) as (answer, offline):
        rows = answer(test)
        if run.served == "f16":
            equal = int(np.count_nonzero(rows == offline(test)))
            write_json(served_file(shop.out, seed), {"numbers": rows.size, "equal": equal})
        return rows


def _to_serve(shop: Workshop, run: Run, seed: int) -> Ranker:
    """Train with both students' vectors; the same model then ranks by what the service answers."""
    return shop.remember(("ranker", seed, run.knowledge), lambda: _train(shop, run, seed))


def _train(shop: Workshop, run: Run, seed: int) -> Ranker:
    info = shop.log.info
    data = shop.data(info.test_day)
    if run.days == PRODUCTION and not run.knowledge:
        start, keeps = _start(shop, seed, run.task), chosen_options(shop.out, "keep")
        return base.go_on(start, data, info.train_days, keeps, seed, run.task)
    options = run_options(shop.out, run)
    days = data.days if run.days == ALL_DAYS else info.train_days
    plugged = _plugged(shop, run, seed) if run.knowledge else None
    side_input = side_input_of(shop, run.system, seed, plugged)
    ranker: Ranker = SYSTEMS[run.system].train(data, days, options, seed, run.task, side_input)
    return ranker


def _plugged(shop: Workshop, run: Run, seed: int) -> Plugged:
    teacher = f"teacher-{seed}-latest{run.window}" if run.window else shop.teacher_of(seed)
    if run.knowledge == "permuted":
        teacher = f"permuted-{seed}"
    knowledge = KNOWLEDGE[run.knowledge](shop, Source(teacher, shop.students_of(seed), run.parts))
    start = _start(shop, seed, run.task) if run.days == PRODUCTION else None
    return Plugged(knowledge, start)


def _start(shop: Workshop, seed: int, task: int) -> base.Base:
    """Return what the production setting goes on from: Base's checkpoint of the version's day."""
    data = shop.data(shop.log.info.test_day)
    return shop.remember(("start", seed, task), lambda: until_version(shop, data, seed, task))


def until_version(shop: Workshop, data: Data, seed: int, task: int) -> base.Base:
    """Train Base on the sub-domain up to the version's day: the checkpoint to plug into."""
    days = [day for day in data.days if day <= shop.version_day]
    options = chosen_options(shop.out, "base")
    assert isinstance(options, base.Options)
    return base.BASE.train(data, days, options, seed, task).model


def side_input_of(shop: Workshop, system: str, seed: int, plugged: Plugged | None) -> object:
    """Find what a system takes beside the log."""
    kind = SYSTEMS[system].takes
    if kind is Encoder:
        return load_encoder(encoder_file(shop.out, system, seed), SYSTEMS[system].options)
    if kind is PretrainConfig:
        return chosen_pretraining(shop.out, seed)
    if kind in (Plugged, NoneType):
        return plugged
    raise TypeError(f"system {system!r} takes {kind.__name__}, which no job finds")


@dataclass(frozen=True)
class Source:
    """Names of the pretrainings whose knowledge is plugged in."""

    teacher: str
    students: str
    parts: Sequence[str] = WHOLE
    """Of the teacher's knowledge."""


def _decomposition(shop: Workshop, source: Source) -> Knowledge:
    return shop.student_knowledge(source.students, slice(0, _category_columns(shop, source).start))


def _degeneration(shop: Workshop, source: Source) -> Knowledge:
    ids = shop.teacher_knowledge(source.teacher, ("user", "item"))
    category = shop.student_knowledge(source.students, _category_columns(shop, source))
    return lambda samples: np.concatenate([ids(samples), category(samples)], axis=1)


def _category_columns(shop: Workshop, source: Source) -> slice:
    config = shop.state(source.students).config
    return slice(*part_spans(PARTS, config.dim, config.category_dim)["user_category"])


def _both_logits(shop: Workshop, source: Source) -> Knowledge:
    whole = shop.student_knowledge(source.students, slice(None))
    weights = shop.logit_weights(source.students)
    return lambda samples: logits_and_category(whole(samples), weights)


KNOWLEDGE: Mapping[str, Callable[[Workshop, Source], Knowledge]] = {
    "teacher": lambda shop, source: shop.teacher_knowledge(source.teacher, source.parts),
    "teacher_logits": lambda shop, source: shop.teacher_logits(source.teacher),
    "click_logit": lambda shop, source: shop.teacher_logits(source.teacher, TASKS.index("click")),
    "permuted": lambda shop, source: shop.teacher_knowledge(source.teacher, source.parts),
    "decomposition": _decomposition,
    "degeneration": _degeneration,
    "both": lambda shop, source: shop.student_knowledge(source.students, slice(None)),
    "both_logits": _both_logits,
}
"""What a run plugs in: KEEP (CIKM'22), equations 4 and 6, table 8."""


def trial_predictions(out: Path, method: str, index: int, seed: int) -> Path:
    """Name the file with what a trial said of the tuning day."""
    folder = method.replace(" ", "-").replace(",", "")
    return out / "work" / "tuning" / folder / f"{index:02d}-{seed}.parquet"


def served_file(out: Path, seed: int) -> Path:
    """Name the file that says how many numbers came through the service in f16 to the bit."""
    return out / "work" / "served" / f"{seed}.json"


def encoder_file(out: Path, system: str, seed: int) -> Path:
    """Name the file of a self-supervised system's encoder."""
    return out / "work" / "encoders" / f"{system}-{seed}.pt"


def chosen_options(out: Path, system: str) -> Training:
    """Read the options, of the system's own class, that tuning chose; its defaults before it."""
    options: Training = SYSTEMS[system].options(**_chosen(out, system))
    return options


def run_options(out: Path, run: Run) -> Training:
    """Read the options that a run is trained with: a plug-in's were tuned for its knowledge."""
    kind = PLUG_INS[run.knowledge] if run.knowledge else "teacher"
    if kind == "teacher":
        return chosen_options(out, run.system)
    tuned = read_json(out / "work" / "chosen.json")["plug-ins"][kind]
    options: Training = SYSTEMS[run.system].options(**_with_tuples(tuned))
    return options


def chosen_pretraining(out: Path, seed: int) -> PretrainConfig:
    """Read the settings that tuning chose for pretraining, with another seed."""
    return PretrainConfig(**{**_chosen(out, "pretraining"), "seed": seed})


def _chosen(out: Path, what: str) -> dict[str, Any]:
    return _with_tuples(read_json(out / "work" / "chosen.json").get(what, {}))


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _trial(
    method: str, options: Training | PretrainConfig, seed: int, test: Samples, scores: F32
) -> dict[str, Any]:
    """Say what was tried, and how well it ranks a day."""
    return {
        "method": method,
        "options": dataclasses.asdict(options),
        "seed": seed,
        "day": test.number,
        "gauc": gauc(test.day.user, test.day.click, scores).value,
    }
