"""One measurement: train on a version, be served another, rank the test day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gkc.arrays import F32
from keep.checkpoint import Pretraining
from keep.compatibility import fit_maps, relative_errors, shared_vectors
from keep.data import Samples
from keep.drift.versions import Tied, version
from keep.gauc import gauc
from keep.knowledge import STORED_PARTS, student_knowledge, student_vectors
from keep.reproduce.pool import ReproductionError
from keep.reproduce.predictions import write_predictions
from keep.reproduce.workshop import Workshop, write_json
from keep.systems import base, keep
from keep.systems.keep import KeepRanker, Knowledge

LAGS = (1, 2, 3)
"""Days that the served version is newer than the trained one."""
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
    """Lay out the test, and the same one day earlier, on which strengths are chosen.

    Parameters
    ----------
    log_days : sequence of int
        Days of the log, ascending, the last one being the test day.
    train_days : sequence of int
        Training days.
    until : int
        Last day that any version may learn from: later knowledge would hold training labels.

    Returns
    -------
    dict
        ``choosing`` and ``testing``.

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
    found = {}
    for name, shift in (("testing", 0), ("choosing", 1)):
        earlier = [days[days.index(day) - shift] for day in (*train_days, days[-1])]
        version = days[days.index(until) - LAGS[-1] - shift]
        found[name] = Setting(earlier[-1], tuple(earlier[:-1]), version)
    return found


@dataclass(frozen=True)
class Measure:
    """Train on v and, to compare, on v + k; rank the test day with what is served."""

    setting: str
    method: str
    """One of ``STRENGTHS``, or ``no knowledge`` or ``stale``."""
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
            ranker = base.train(data, self.at.train_days, keep.Options(), self.seed)
            scores["mismatched"] = ranker.score(test)
        else:
            trained = self._trained(shop)
            if self.method == "stale":
                scores["mismatched"] = trained.score(test)
            else:
                served = self.served(shop)
                scores["mismatched"] = trained.score(test, served)
                matched = keep.train(
                    data, self.at.train_days, keep.Options(), self.seed, knowledge=served
                )
                scores["matched"] = matched.score(test)
        day = test.day
        found = {}
        for which, score in scores.items():
            file = self.predictions(shop.out, which)
            write_predictions(file, day.user, day.item, day.click, score)
            found[which] = gauc(day.user, day.click, score).value
        write_json(self.file(shop.out), found)

    def _trained(self, shop: Workshop) -> KeepRanker:
        """Train on v; kept in memory for the next measures."""
        knowledge = _read(version(shop, f"seed{self.seed}", self.at.version))
        data = shop.data(self.at.test_day)
        return shop.kept(
            ("stale", self.setting, self.seed),
            lambda: keep.train(
                data, self.at.train_days, keep.Options(), self.seed, knowledge=knowledge
            ),
        )

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
        return lambda samples: student_knowledge(
            state, samples.day.user, samples.day.item, samples.day.category, maps=maps
        )


def _read(state: Pretraining) -> Knowledge:
    return lambda samples: student_knowledge(
        state, samples.day.user, samples.day.item, samples.day.category
    )


def _averaged(states: Sequence[Pretraining]) -> Knowledge:
    """Average the versions' vectors, part by part, before the product."""

    def knowledge(samples: Samples) -> F32:
        day = samples.day
        ids = (day.user, day.item, day.category)
        k_u, k_i, k_uc = (
            np.mean([student_vectors(state, part, *ids)[0] for state in states], axis=0)
            for part in STORED_PARTS
        )
        return np.concatenate([k_u, k_i, k_u * k_i, k_uc], axis=1)

    return knowledge
