"""A checkpoint: everything that training needs to go on with the next day, as a directory.

::

    CKPT/checkpoint.json         names the current state; replaced by rename, so always whole
    CKPT/day-0007-3f9c12ab/      one state: config.json, features.npz, weights.pt (models and
                                 optimizer); written and synced before it is named

A process killed at any moment leaves the former state current. States that are not current are
removed by the next save.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from keep.atomic import sync, write_text
from keep.config import TASKS, PretrainConfig, config_from_values
from keep.errors import ProblemError
from keep.features import Features, Vocabulary
from keep.log import IDS, Log
from keep.models import Models, table_sizes
from keep.weights import DAMAGE, load_weights

FORMAT = "keep-checkpoint/2"
POINTER = "checkpoint.json"
_ID_TYPES = {False: "integers", True: "strings"}


class CheckpointError(ProblemError):
    """A checkpoint that cannot be read or used."""

    kind = "checkpoint "


class OtherIdsError(ProblemError):
    """A log whose ids are not what a checkpoint knows."""

    kind = "log "


@dataclass(frozen=True)
class StudentLesson:
    """What distillation did to one student."""

    steps: int
    """Steps up to the weights that were kept."""
    seconds: float
    before: dict[str, list[float]]
    """Task to the mean within-user correlation of its logits with the teacher's, for each of
    ``CELLS``, over pairs that were never shown."""
    after: dict[str, list[float]]


CELLS = ("user and item drawn", "item never drawn", "user never drawn", "neither ever drawn")
"""Which of a pair's ids distillation may draw: what correlations are told apart by."""


@dataclass(frozen=True)
class Distillation:
    """What distillation did to the students of a checkpoint."""

    settings: dict[str, float]
    """The fields of ``DistillationConfig``."""
    pairs: int
    """Distinct draws of a user with an item that was never shown."""
    pairs_per_user: float
    """The same by users known."""
    students: dict[str, StudentLesson]
    """By the student's name."""

    def lines(self) -> list[str]:
        """Put it in words, a table of correlations for each student."""
        told = [f"distilled with {self.pairs:,} pairs, {self.pairs_per_user:.1f} a user"]
        for name, lesson in self.students.items():
            told.append(f"{name}: {lesson.steps} steps, {lesson.seconds:.1f} s")
            told.append(
                f"  {'correlation with the teacher':<32}" + "".join(f"{t:>22}" for t in TASKS)
            )
            for place, cell in enumerate(CELLS):
                pairs = ((lesson.before[task][place], lesson.after[task][place]) for task in TASKS)
                told.append(f"  {cell:<32}" + "".join(f"{a:>12.4f} -> {b:.4f}" for a, b in pairs))
        return told


@dataclass
class Pretraining:
    """The state of pretraining after a day: what a checkpoint holds."""

    config: PretrainConfig
    day: int
    """The last day learned from: labels and behaviours up to it are in the knowledge."""
    features: Features
    models: Models
    optimizers: dict[str, torch.optim.Adam]
    """One per model, by its name."""
    string_ids: tuple[str, ...] = ()
    """Columns whose numbers stand for strings of the log, as ``LogInfo.string_ids``."""
    distillation: Distillation | None = None
    """What was done to the students at the freeze (``keep.distillation``). Nothing goes on from a
    state that has it: it has no optimizer."""

    @property
    def vector_space(self) -> str:
        """The name of the space of its knowledge: the digest of the students' weights.

        It is equal for equal weights alone, whatever release of torch writes them as ONNX.
        """
        digest = hashlib.sha256()
        for name in ("two_tower", "category"):
            for weight, tensor in self.models.get_submodule(name).state_dict().items():
                values = tensor.numpy()
                digest.update(f"{name}.{weight} {values.dtype.str} {values.shape}\n".encode())
                digest.update(np.ascontiguousarray(values).data)
        return f"keep-sha256:{digest.hexdigest()}"


def require_ids(state: Pretraining, log: Log) -> None:
    """Check that numbers of a log stand for what they stood for in the one pretrained on.

    Raises
    ------
    OtherIdsError
        If those of a column stand for strings in one of them alone.
    """
    for column in IDS:
        now, then = (column in names for names in (log.info.string_ids, state.string_ids))
        if now != then:
            problem = (
                f"its {IDS[column]} are {_ID_TYPES[now]}, those that the checkpoint was pretrained "
                f"on are {_ID_TYPES[then]}; name that log, or one imported as it was"
            )
            raise OtherIdsError(log.path, problem)


def make_optimizers(models: Models, config: PretrainConfig) -> dict[str, torch.optim.Adam]:
    """Make an Adam for each model."""
    students = config.student_learning_rate
    return {
        name: torch.optim.Adam(
            model.parameters(),
            lr=config.learning_rate if name == "teacher" else students,
            fused=True,
        )
        for name, model in models.named_children()
    }


def save_checkpoint(state: Pretraining, path: Path) -> None:
    """Write a state and make it the checkpoint's current one, atomically."""
    name = f"day-{state.day:04d}-{secrets.token_hex(4)}"
    folder = path / name
    folder.mkdir(parents=True)
    config = {
        "day": state.day,
        "models": state.models.trained,
        "string_ids": state.string_ids,
        "config": dataclasses.asdict(state.config),
        "distillation": state.distillation and dataclasses.asdict(state.distillation),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    _save_features(state.features, folder / "features.npz")
    weights = {"models": state.models.state_dict(), "moments": _moments(state)}
    torch.save(weights, folder / "weights.pt")
    for file in folder.iterdir():
        sync(file)
    sync(folder)
    pointer = {"format": FORMAT, "day": state.day, "state": name}
    write_text(path / POINTER, json.dumps(pointer), durable=True)
    for old in path.glob("day-*"):
        if old.name != name:
            shutil.rmtree(old)


def load_checkpoint(path: Path) -> Pretraining:
    """Read the current state of a checkpoint.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, it has another format, or its files are damaged.
    """
    try:
        pointer = json.loads((path / POINTER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(path, f"has no readable {POINTER}; make one: keep pretrain") from exc
    if not isinstance(pointer, dict) or pointer.get("format") != FORMAT:
        stated = pointer.get("format") if isinstance(pointer, dict) else None
        raise CheckpointError(path, f"format {stated!r} is not {FORMAT!r}; pretrain again")
    if not isinstance(pointer.get("state"), str):
        raise CheckpointError(path, f"{POINTER} names no state; pretrain again")
    folder = path / pointer["state"]
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config_from_values(values["config"], str(folder / "config.json"))
        features = _load_features(folder / "features.npz", config.behaviours)
        models = Models(table_sizes(features), config, values["models"])
        weights = load_weights(folder / "weights.pt")
        models.load_state_dict(weights["models"])
        # Earlier checkpoints say nothing of string_ids and distillation.
        distillation = _distillation(values.get("distillation"))
        optimizers = {} if distillation else make_optimizers(models, config)
        _set_moments(models, optimizers, weights["moments"])
        string_ids = tuple(values.get("string_ids", ()))
    except DAMAGE as exc:
        raise CheckpointError(path, f"is damaged ({exc}); pretrain again") from exc
    day = int(values["day"])
    return Pretraining(config, day, features, models, optimizers, string_ids, distillation)


def holds_checkpoint(path: Path) -> bool:
    """Tell whether a directory holds a checkpoint."""
    return (path / POINTER).exists()


def _distillation(values: dict[str, Any] | None) -> Distillation | None:
    if values is None:
        return None
    students = {name: StudentLesson(**lesson) for name, lesson in values["students"].items()}
    return Distillation(**values | {"students": students})


def _moments(state: Pretraining) -> dict[str, torch.Tensor]:
    """Name Adam's state after the parameters it belongs to."""
    return {
        f"{model}.{name}:{key}": value
        for model, optimizer in state.optimizers.items()
        for name, parameter in state.models.get_submodule(model).named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _set_moments(
    models: Models, optimizers: dict[str, torch.optim.Adam], moments: dict[str, torch.Tensor]
) -> None:
    keys = ("step", "exp_avg", "exp_avg_sq")
    for model, optimizer in optimizers.items():
        for name, parameter in models.get_submodule(model).named_parameters():
            optimizer.state[parameter] = {key: moments[f"{model}.{name}:{key}"] for key in keys}


def _save_features(features: Features, file: Path) -> None:
    parts = {name: part for name, part in vars(features).items() if name != "length"}
    ids = {name: part.ids for name, part in parts.items() if isinstance(part, Vocabulary)}
    np.savez(file, **parts | ids)


def _load_features(file: Path, length: int) -> Features:
    features = Features(length)
    with file.open("rb") as stream, np.load(stream) as arrays:
        for name, fresh in vars(features).items():
            if name != "length":
                part = arrays[name]
                setattr(features, name, Vocabulary(part) if isinstance(fresh, Vocabulary) else part)
    return features
