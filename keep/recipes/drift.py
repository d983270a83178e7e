"""What serving another version than the trained one costs, and what makes versions compatible.

A downstream model is trained on knowledge of version v. It is then served v + k, pretrained for k
days more, or anew from another seed. The mismatch cost is what it loses against being served v.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from keep.atomic import read_json, write_json, write_text
from keep.config import PretrainConfig
from keep.drift.costs import report, rows_of_lag
from keep.drift.measures import CONTROLS, FRESH, LAGS, STRENGTHS, Measure, Setting, settings
from keep.drift.versions import Chain, Tied
from keep.reproduce.circumstances import circumstances
from keep.reproduce.pool import Pool, workers
from keep.reproduce.workshop import Workshop

FORMAT = "keep-drift/1"
PRESETS = {"small": 1, "full": 3}
"""Seeds."""


def drift(
    log_path: Path, out: Path, preset: str = "small", seeds: int | None = None
) -> dict[str, Any]:
    """Measure every way to a newer version at every lag; write and print the results.

    A folder that was begun with the same log and seeds is gone on with.

    Raises
    ------
    ReproductionError
        If ``out`` holds another measurement, the log has too few days, or a job fails.
    """
    shop = Workshop(log_path, out, PretrainConfig.behaviours)
    info = shop.log.info
    used_seeds = range(1, (PRESETS[preset] if seeds is None else seeds) + 1)
    at = settings(
        [day for day in info.days if day <= info.test_day], info.train_days, info.pretrain_until
    )
    shop.claim({"checksum": info.checksum, "preset": preset, "seeds": list(used_seeds)})
    with closing(shop), shop.timed(), workers(log_path, out, shop.behaviours) as pool:
        _pretrain(pool, shop, at, used_seeds)
        choosing = list(_choices(at["choosing"], used_seeds))
        pool.run("choosing", choosing)
        chosen = _choose(choosing, out)
        pool.run("pretraining", list(_tied(shop, at["testing"], used_seeds, chosen)))
        pool.run("testing", list(_tests(at["testing"], used_seeds, chosen)))
    results = {
        "format": FORMAT,
        "command": f"keep drift --log {log_path.name} --preset {preset} --seeds {len(used_seeds)}",
        "log": dataclasses.asdict(info),
        "seeds": list(used_seeds),
        "seconds": shop.seconds,
        "setting": {name: dataclasses.asdict(setting) for name, setting in at.items()},
        "chosen": chosen,
        "trials": [_trial(measure, out) for measure in choosing],
        "lags": {
            str(lag): rows_of_lag(out, at["testing"], used_seeds, chosen, lag) for lag in LAGS
        },
        **circumstances(),
    }
    write_json(out / "results.json", results)
    text = report(results)
    write_text(out / "report.md", text)
    print(text)
    return results


def _pretrain(pool: Pool, shop: Workshop, at: Mapping[str, Setting], seeds: Sequence[int]) -> None:
    """Make the chains, then the versions that are held to v on the choosing day."""
    first = at["choosing"].version
    days = tuple(day for day in shop.log.info.days if day <= shop.version_day)
    versions = tuple(day for day in days if day >= first)
    pool.run(
        "pretraining",
        [Chain(seed + fresh, days, versions) for fresh in (0, FRESH) for seed in seeds],
    )
    tied: list[Tied] = []
    for position in range(3):
        strengths = {
            method: values[min(position, len(values) - 1)] for method, values in STRENGTHS.items()
        }
        tied += _tied(shop, at["choosing"], seeds, strengths)
    pool.run("pretraining", list(dict.fromkeys(tied)))


def _tied(
    shop: Workshop, at: Setting, seeds: Sequence[int], chosen: Mapping[str, float]
) -> Iterator[Tied]:
    """List the versions that are held to v, with the strengths given."""
    newer = tuple(day for day in shop.log.info.days if day > at.version)[: LAGS[-1]]
    for method in ("penalty", "distillation"):
        for seed in seeds:
            yield Tied(method, chosen[method], seed, at.version, newer)


def _choices(at: Setting, seeds: Sequence[int]) -> Iterator[Measure]:
    for seed in seeds:
        for method, strengths in STRENGTHS.items():
            for strength in strengths:
                yield Measure("choosing", method, strength, seed, 1, at)


def _tests(at: Setting, seeds: Sequence[int], chosen: Mapping[str, float]) -> Iterator[Measure]:
    for seed in seeds:
        for control in CONTROLS:
            yield Measure("testing", control, 0.0, seed, 0, at)
        for lag in LAGS:
            for method, strength in chosen.items():
                yield Measure("testing", method, strength, seed, lag, at)


def _trial(measure: Measure, out: Path) -> dict[str, Any]:
    return {
        "method": measure.method,
        "strength": measure.strength,
        "seed": measure.seed,
        "day": measure.at.test_day,
        **read_json(measure.file(out)),
    }


def _choose(measures: Sequence[Measure], out: Path) -> dict[str, float]:
    """Take each method's strength with the best mean of mismatched and matched GAUC at k = 1.

    Mismatched alone would favour holding the new version still, which then learns nothing.
    """
    scores: dict[str, dict[float, list[float]]] = {}
    for measure in measures:
        values = read_json(measure.file(out))
        score = (values["mismatched"] + values["matched"]) / 2
        scores.setdefault(measure.method, {}).setdefault(measure.strength, []).append(score)
    return {
        method: max(by_strength, key=lambda strength: float(np.mean(by_strength[strength])))
        for method, by_strength in scores.items()
    }
