"""One measurement: train on a version, be served another, rank the test day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gkc.arrays import F32
from keep.atomic import write_json
from keep.checkpoint import Pretraining
from keep.compatibility import fit_maps, relative_errors, shared_vectors
from keep.data import Data, Samples
from keep.drift.versions import Tied, version
from keep.gauc import gauc
from keep.knowledge import STORED_PARTS, as_row, student_knowledge, student_vectors
from keep.reproduce.pool import ReproductionError
from keep.reproduce.predictions import write_predictions
from keep.reproduce.workshop import Workshop
from keep.systems.base import BASE
from keep.systems.plugged import KEEP, KeepRanker, Knowledge, Options, Plugged

LAGS = (1, 2, 3)
"""Days that the served version is newer than the trained one."""
CONTROLS = ("no knowledge", "stale")
"""What the ways to a newer version are held against."""
FRESH = 500
"""Added to a seed for the version that is pretrained anew."""
STRENGTHS: Mapping[str, tuple[float, ...]] = {
    "warm start": (0.0,),
    "penalty": (0.1, 1.0, 10.0),
    "distillation": (0.1, 1.0, 10.0),
    "average": (0.0,),
    "ridge map": (0.01, 0.1, 1.0),
    "fresh seed": (0.0,),
    "fresh seed, ridge map": (0.01, 0.1, 1.0),
}
"""Ways to a newer version, and the strengths that are tried on the day before the test day."""


@dataclass(frozen=True)
class Setting:
    """One test day with its training days and the version that is trained on."""

    test_day: int
    train_days: tuple[int, ...]
    version: int
    """v: the last day that the trained knowledge has learned from."""


def settings(log_days: Sequence[int], train_days: Sequence[int], until: int) -> dict[str, Setting]:
    """Lay out ``testing``, and ``choosing`` of strengths, which is the same one day earlier.

    The log's last day is the test day. No version may learn from a day after ``until``: its
    knowledge would hold training labels.

    Raises
    ------
    ReproductionError
        If the log has too few days before ``until``.
    """
    days = list(log_days)
    if days.index(until) < LAGS[-1] + 1:
        raise ReproductionError(
            "keep drift", f"needs {LAGS[-1] + 2} days up to day {until}, the last of pretraining"
        )
    laid_out = {}
    for name, shift in (("testing", 0), ("choosing", 1)):
        earlier = [days[days.index(day) - shift] for day in (*train_days, days[-1])]
        version = days[days.index(until) - LAGS[-1] - shift]
        laid_out[name] = Setting(earlier[-1], tuple(earlier[:-1]), version)
    return laid_out


@dataclass(frozen=True)
class Measure:
    """Train on v and, to compare, on v + k; rank the test day with what is served."""

    setting: str
    method: str
    """One of ``STRENGTHS`` or ``CONTROLS``."""
    strength: float
    seed: int
    lag: int
    at: Setting

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"{self.setting}: {self.method} {self.strength:g}, k = {self.lag}, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        folder = f"{self.method.replace(', ', '-').replace(' ', '-')}-{self.strength:g}"
        return out / "work" / self.setting / folder / str(self.lag) / f"{self.seed}.json"

    def predictions(self, out: Path, which: str) -> Path:
        """Name the file of the scores, ``mismatched`` or ``matched``."""
        return self.file(out).with_name(f"{self.seed}-{which}.parquet")

    def errors(self, out: Path) -> Path:
        """Name the file of the maps' errors; only ways with maps leave one."""
        return self.file(out).with_name(f"{self.seed}-errors.json")

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        data = shop.data(self.at.test_day)
        test = data.sub_domain(self.at.test_day)
        scores: dict[str, F32] = {}
        if self.method == "no knowledge":
            ranker = BASE.train(data, self.at.train_days, Options(), self.seed)
            scores["mismatched"] = ranker.score(test)
        elif self.method == "stale":
            scores["mismatched"] = self._stale(shop).score(test)
        else:
            stale, served = self._stale(shop), self.served(shop)
            scores["mismatched"] = stale.score(test, served)
            scores["matched"] = self._plugged(data, served).score(test)
        day = test.day
        for which, score in scores.items():
            file = self.predictions(shop.out, which)
            write_predictions(file, day.user, day.item, day.click, score)
        values = {which: gauc(day.user, day.click, score).value for which, score in scores.items()}
        write_json(self.file(shop.out), values)

    def _stale(self, shop: Workshop) -> KeepRanker:
        """Train on v; it stays in memory for the next measures."""
        knowledge = _read(version(shop, f"seed{self.seed}", self.at.version))
        data = shop.data(self.at.test_day)
        return shop.remember(
            ("stale", self.setting, self.seed), lambda: self._plugged(data, knowledge)
        )

    def _plugged(self, data: Data, knowledge: Knowledge) -> KeepRanker:
        plugged = Plugged(knowledge)
        return KEEP.train(data, self.at.train_days, Options(), self.seed, side_input=plugged)

    def served(self, shop: Workshop) -> Knowledge:
        """Make the version that is served."""
        versions = [day for day in shop.log.info.days if day >= self.at.version]
        newer = versions[self.lag]
        main, old = f"seed{self.seed}", version(shop, f"seed{self.seed}", self.at.version)
        if self.method in ("penalty", "distillation"):
            tied = Tied(self.method, self.strength, self.seed, self.at.version, ())
            return _read(version(shop, tied.folder, newer))
        if self.method == "average":
            return _averaged([version(shop, main, day) for day in versions[: self.lag + 1]])
        chain = f"seed{self.seed + FRESH}" if self.method.startswith("fresh") else main
        state = version(shop, chain, newer)
        if not self.method.endswith("ridge map"):
            return _read(state)
        shared = shared_vectors(state, old, shop.log)
        errors = relative_errors(shared, self.strength)
        write_json(self.errors(shop.out), errors)
        maps = fit_maps(shared, self.strength)
        return lambda samples: student_knowledge(state, *samples.day.ids, maps=maps)


def _read(state: Pretraining) -> Knowledge:
    return lambda samples: student_knowledge(state, *samples.day.ids)


def _averaged(states: Sequence[Pretraining]) -> Knowledge:
    """Average the versions' vectors, part by part, before the product."""

    def knowledge(samples: Samples) -> F32:
        ids = samples.day.ids
        k_u, k_i, k_uc = (
            np.mean([student_vectors(state, part, *ids)[0] for state in states], axis=0)
            for part in STORED_PARTS
        )
        return as_row(k_u, k_i, k_uc)

    return knowledge
