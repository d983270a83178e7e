"""What refactoring must leave as it is: parameters after a day of training, and whole results.

``python -m tests.keep.digests FILE`` writes them as JSON. Last bits differ between processors, so
files are compared that one machine wrote, before and after a change.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gkc.arrays import F32
from keep.checkpoint import Pretraining
from keep.config import PretrainConfig
from keep.data import Data, Samples
from keep.knowledge import knowledge_of, student_knowledge
from keep.log import Log, open_log
from keep.pretraining import start, train_day
from keep.recipes.drift import drift
from keep.recipes.reproduce import reproduce
from keep.sources.simulator import SimulatorConfig, simulate
from keep.systems.base import Options
from keep.systems.plugged import Plugged
from keep.systems.registry import SYSTEMS
from keep.systems.transformer import Encoder
from tests.keep.tiny import CONFIG, DAYS, tiny_log

CIRCUMSTANCES = {"seconds", "date", "commit", "machine", "versions"}
TRAINED, SEED = 4, 1


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        found = {
            "pretraining": pretraining_digests(work / "pretrained"),
            "systems": system_digests(work / "systems"),
            "reproduction": reproduction(work / "reproduced"),
            "drift": drifted(work / "drifted"),
        }
    text = json.dumps(found, indent=1, sort_keys=True)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


def pretrained(log: Log) -> Pretraining:
    """Pretrain on the log's first two days."""
    state = start(log.day(1), CONFIG)
    for number in (1, 2):
        train_day(state, number, log.day(number))
    return state


def pretraining_digests(work: Path) -> dict[str, str]:
    work.mkdir()
    log = tiny_log(work / "log")
    state, day = pretrained(log), log.day(DAYS)
    return {
        "weights": digest(state.models.state_dict()),
        "teacher": _sha(knowledge_of(state, day)),
        "students": _sha(student_knowledge(state, day.user, day.item, day.category)),
    }


def system_digests(work: Path) -> dict[str, dict[str, Any]]:
    """Train each system on one day, for each task, and list what its grid tries."""
    work.mkdir()
    log = tiny_log(work / "log")
    data, state = Data(log, DAYS, CONFIG.behaviours), pretrained(log)

    def knowledge(samples: Samples) -> F32:
        return knowledge_of(state, samples.day)

    digests: dict[str, dict[str, Any]] = {}
    for name, system in SYSTEMS.items():
        options = system.options(**({"dropout": 0.1} if hasattr(system.options, "dropout") else {}))
        given: dict[type, object] = {
            NoneType: None,
            Plugged: Plugged(knowledge),
            PretrainConfig: CONFIG,
        }
        entry: dict[str, Any] = {
            "grid": [str(vars(tried)) for tried in system.grid(Options(batch_size=7))]
        }
        if system.pretrain:
            given[Encoder] = encoder = system.pretrain(data, (1, 2), options, SEED)
            entry["encoder"] = digest(encoder.state_dict())
        for task in range(3):
            ranker = system.train(data, (TRAINED,), options, SEED, task, given[system.takes])
            plugged = ranker.plug_in.state_dict() if hasattr(ranker, "plug_in") else {}
            entry[f"task {task}"] = {
                "weights": digest(ranker.model.state_dict() | plugged),
                "scores": _sha(ranker.score(data.sub_domain(DAYS))),
            }
        digests[name] = entry
    return digests


def reproduction(work: Path) -> dict[str, Any]:
    work.mkdir()
    log = tiny_log(work / "log", pretrain_until=2)
    results = reproduce(log.path, work / "out", ("2", "8"), "small", seeds=1)
    return {"results": lasting(results), "files": files(work / "out")}


def drifted(work: Path) -> dict[str, Any]:
    config = SimulatorConfig(
        users=60, items=50, categories=6, shops=8, days=9, impressions_per_day=600
    )
    work.mkdir()
    simulate(config, 1, work / "log", lambda amount: None)
    results = drift(open_log(work / "log").path, work / "out", seeds=1)
    return {"results": lasting(results), "files": files(work / "out")}


def files(out: Path) -> list[str]:
    """List the files left, but for checkpoints' states, whose names are random."""
    names = [str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()]
    return sorted(name for name in names if "/day-" not in name)


def lasting(value: Any) -> Any:
    """Leave out what differs from run to run."""
    if isinstance(value, Mapping):
        return {str(k): lasting(v) for k, v in value.items() if k not in CIRCUMSTANCES}
    return [lasting(part) for part in value] if isinstance(value, list | tuple) else value


def digest(state: Mapping[str, Tensor]) -> str:
    parts = [f"{name}:{_sha(tensor.numpy())}\n" for name, tensor in sorted(state.items())]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _sha(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


if __name__ == "__main__":
    main()
