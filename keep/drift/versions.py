"""Versions of the students: pretrained day by day, anew, or held to what they were."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from keep.atomic import write_json
from keep.checkpoint import Pretraining, load_checkpoint, save_checkpoint
from keep.config import PretrainConfig
from keep.features import Batch
from keep.models import Models, distillation_loss
from keep.pretraining import ExtraLoss, train_day
from keep.reproduce.workshop import STUDENTS, Workshop


@dataclass(frozen=True)
class Chain:
    """Pretrain the students day by day and keep the last versions."""

    seed: int
    days: tuple[int, ...]
    """All days learned from."""
    versions: tuple[int, ...]
    """Those after which a version stays."""

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"pretrain, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return chain_folder(out, f"seed{self.seed}") / "done.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        began = time.perf_counter()
        config, latest = PretrainConfig(seed=self.seed), self.file(shop.out).with_name("latest")
        shop.pretrain_days(latest, self.days, config, STUDENTS, self.versions)
        write_json(self.file(shop.out), {"seconds": time.perf_counter() - began})


@dataclass(frozen=True)
class Tied:
    """Go on from a version, holding the students to what they were."""

    method: str
    strength: float
    seed: int
    version: int
    days: tuple[int, ...]

    @property
    def folder(self) -> str:
        """Where its versions lie, below the chains."""
        return f"{self.method}{self.strength:g}-seed{self.seed}-from{self.version}"

    @property
    def name(self) -> str:
        """What progress shows."""
        return f"pretrain, {self.method} {self.strength:g}, seed {self.seed}"

    def file(self, out: Path) -> Path:
        """Name the file that the job leaves."""
        return chain_folder(out, self.folder) / "done.json"

    def do(self, shop: Workshop) -> None:
        """Do it in this process."""
        began = time.perf_counter()
        source = chain_folder(shop.out, f"seed{self.seed}") / str(self.version)
        state, old = load_checkpoint(source), load_checkpoint(source).models
        extra = hold_to(state, old, self.method, self.strength)
        for number in self.days:
            train_day(state, number, shop.log.day(number), extra)
            save_checkpoint(state, self.file(shop.out).parent / str(number))
        write_json(self.file(shop.out), {"seconds": time.perf_counter() - began})


def hold_to(state: Pretraining, old: Models, method: str, strength: float) -> ExtraLoss:
    """Make the ``penalty`` or ``distillation`` that keeps a version near an older one.

    Ids that the older version did not know are left alone.
    """
    old.eval()
    held = Held(state.models, old, strength)
    return {"penalty": held.penalty, "distillation": held.distillation}[method]


@dataclass(frozen=True)
class Held:
    """Students that learn on, and what they were."""

    new: Models
    old: Models
    strength: float
    """Weight of the loss."""

    def penalty(self, name: str, batch: Batch, logits: list[Tensor]) -> Tensor:
        """Take the mean squared difference of the vectors of a step's users, items and pairs.

        So each id counts as often as it is shown.
        """
        chosen = self._known(batch).nonzero().squeeze(1)
        if len(chosen) == 0:
            return 0.0 * logits[0].sum()
        with torch.no_grad():
            before = _vectors(self.old, name, batch, chosen)
        now = _vectors(self.new, name, batch, chosen)
        parts = [((new - former) ** 2).mean() for new, former in zip(now, before, strict=True)]
        return self.strength * torch.stack(parts).sum()

    def distillation(self, name: str, batch: Batch, logits: list[Tensor]) -> Tensor:
        """Take that of the task logits; ids that are new to the older version are unknown to it."""
        features = self.old.two_tower.features
        tables = (features.item, features.shop, features.category)
        items = [
            _within(batch.items[..., column], len(table.weight))
            for column, table in enumerate(tables)
        ]
        safe = dataclasses.replace(
            batch,
            user=_within(batch.user, len(self.old.two_tower.user.weight)),
            behaviours=_within(batch.behaviours, len(features.item.weight)),
            items=torch.stack(items, dim=-1),
        )
        with torch.no_grad():
            before = self.old.get_submodule(name)(safe)
        return self.strength * distillation_loss(logits, before, batch)

    def _known(self, batch: Batch) -> Tensor:
        """Tell in which lines, (B,), the older version knows user, item, category, behaviours."""
        users, features = len(self.old.two_tower.user.weight), self.old.two_tower.features
        rows, items = len(features.item.weight), batch.items[:, 0]  # (B, 3)
        known = (batch.user < users) & (items[:, 0] < rows)
        known &= items[:, 2] < len(features.category.weight)
        return known & (batch.behaviours < rows).all(dim=1)


def _vectors(models: Models, name: str, batch: Batch, chosen: Tensor) -> list[Tensor]:
    user, behaviours = batch.user[chosen], batch.behaviours[chosen]
    items = batch.items[chosen, 0]
    if name == "two_tower":
        k_u = models.two_tower.user_knowledge(user, behaviours)
        return [k_u, models.two_tower.item_knowledge(items)]
    return [models.category.knowledge(user, behaviours, items[:, 2])]


def _within(ids: Tensor, rows: int) -> Tensor:
    """Read ids that a table does not have as the unknown one."""
    return torch.where(ids < rows, ids, 1)


def chain_folder(out: Path, name: str) -> Path:
    """Name the folder of a chain of versions."""
    return out / "work" / "chains" / name


def version(shop: Workshop, chain: str, day: int) -> Pretraining:
    """Load a version of a chain, ``seed`` and a number or a ``Tied.folder``."""
    return shop.remember(
        ("state", chain, day), lambda: load_checkpoint(chain_folder(shop.out, chain) / str(day))
    )
