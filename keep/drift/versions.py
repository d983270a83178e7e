"""Versions of the students: pretrained day by day, anew, or held to what they were."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from keep.atomic import write_json
from keep.checkpoint import Pretraining, holds_checkpoint, load_checkpoint, save_checkpoint
from keep.config import PretrainConfig
from keep.features import Batch
from keep.models import Models, distillation_loss
from keep.pretraining import ExtraLoss, start, train_day
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
        folder = self.file(shop.out).parent
        latest = folder / "latest"
        state = load_checkpoint(latest) if holds_checkpoint(latest) else None
        for number in self.days:
            if state is not None and number <= state.day:
                continue
            day = shop.log.day(number)
            if state is None:
                state = start(day, PretrainConfig(seed=self.seed), STUDENTS)
            train_day(state, number, day)
            if number in self.versions:
                save_checkpoint(state, folder / str(number))
            save_checkpoint(state, latest)
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
    """Make the loss that keeps a version near an older one.

    Parameters
    ----------
    old : Models
        The older one's students; they stay as they are.
    method : str
        ``penalty``: the mean squared difference of the vectors of a step's users, items and pairs,
        so that each id counts as often as it is shown. ``distillation``: that of the task logits.

    Returns
    -------
    callable
        As ``train_day`` takes it. Ids that the older version did not know are left alone.
    """
    old.eval()
    rows = {
        name: len(table.weight)
        for name, table in (
            ("user", old.two_tower.user),
            ("item", old.two_tower.features.item),
            ("category", old.two_tower.features.category),
        )
    }

    def known(batch: Batch) -> Tensor:
        items = batch.items[:, 0]  # (B, 3)
        ids = (batch.user < rows["user"]) & (items[:, 0] < rows["item"])
        return ids & (items[:, 2] < rows["category"]) & (batch.behaviours < rows["item"]).all(dim=1)

    def vectors(models: Models, name: str, batch: Batch, chosen: Tensor) -> list[Tensor]:
        user, behaviours = batch.user[chosen], batch.behaviours[chosen]
        items = batch.items[chosen, 0]
        if name == "two_tower":
            k_u = models.two_tower.user_knowledge(user, behaviours)
            return [k_u, models.two_tower.item_knowledge(items)]
        return [models.category.knowledge(user, behaviours, items[:, 2])]

    def penalty(name: str, batch: Batch, logits: list[Tensor]) -> Tensor:
        chosen = known(batch).nonzero().squeeze(1)
        if len(chosen) == 0:
            return 0.0 * logits[0].sum()
        with torch.no_grad():
            before = vectors(old, name, batch, chosen)
        now = vectors(state.models, name, batch, chosen)
        parts = [((new - former) ** 2).mean() for new, former in zip(now, before, strict=True)]
        return strength * torch.stack(parts).sum()

    def distillation(name: str, batch: Batch, logits: list[Tensor]) -> Tensor:
        limits = torch.tensor([rows["item"], len(old.two_tower.features.shop.weight)])
        safe = dataclasses.replace(
            batch,
            user=_within(batch.user, rows["user"]),
            behaviours=_within(batch.behaviours, rows["item"]),
            items=torch.stack(
                [
                    _within(batch.items[..., 0], int(limits[0])),
                    _within(batch.items[..., 1], int(limits[1])),
                    _within(batch.items[..., 2], rows["category"]),
                ],
                dim=-1,
            ),
        )
        with torch.no_grad():
            before = old.get_submodule(name)(safe)
        return strength * distillation_loss(logits, before, batch)

    return penalty if method == "penalty" else distillation


def _within(ids: Tensor, rows: int) -> Tensor:
    """Read ids that a table does not have as the unknown one."""
    return torch.where(ids < rows, ids, 1)


def chain_folder(out: Path, name: str) -> Path:
    """Name the folder of a chain of versions."""
    return out / "work" / "chains" / name


def version(shop: Workshop, chain: str, day: int) -> Pretraining:
    """Load a version of a chain; a few stay in memory.

    Parameters
    ----------
    chain : str
        ``seed`` and a number, or a ``Tied.folder``.
    """
    return shop.remember(
        ("state", chain, day), lambda: load_checkpoint(chain_folder(shop.out, chain) / str(day))
    )
