"""Versions that are held to what they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from keep.checkpoint import load_checkpoint
from keep.drift import versions
from keep.drift.versions import Chain, Tied, chain_folder, hold_to, version
from keep.features import make_batch
from keep.log import Log
from keep.pretraining import start, train_day
from keep.reproduce.workshop import STUDENTS, Workshop
from tests.keep.tiny import CONFIG, tiny_days, tiny_log


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setattr(
        versions, "PretrainConfig", lambda seed: dataclasses.replace(CONFIG, seed=seed)
    )
    log: Log = tiny_log(tmp_path / "log")
    return Workshop(log.path, tmp_path / "out", CONFIG.behaviours)


def test_a_chain_keeps_the_versions_asked_for_and_goes_on_where_it_stopped(shop: Workshop) -> None:
    Chain(1, (1, 2), (2,)).do(shop)
    folder = chain_folder(shop.out, "seed1")
    assert {path.name for path in folder.iterdir()} == {"2", "latest", "done.json"}
    Chain(1, (1, 2, 3), (2, 3)).do(shop)
    once = load_checkpoint(folder / "3").models.state_dict()
    Chain(2, (1,), (1,)).do(shop)
    state = start(shop.log.day(1), CONFIG, STUDENTS)
    for number in (1, 2, 3):
        train_day(state, number, shop.log.day(number))
    for name, tensor in state.models.state_dict().items():
        assert torch.equal(tensor, once[name])
    assert version(shop, "seed1", 2).day == 2


@pytest.mark.parametrize("method", ["penalty", "distillation"])
def test_a_tied_version_stays_nearer_to_the_old_one(shop: Workshop, method: str) -> None:
    Chain(1, (1, 2), (2,)).do(shop)
    found = {}
    for strength in (0.0, 100.0):
        tied = Tied(method, strength, 1, 2, (3,))
        tied.do(shop)
        found[strength] = version(shop, tied.folder, 3)
    old = version(shop, "seed1", 2).models.two_tower
    user, behaviours = torch.arange(2, 20), torch.zeros((18, 5), dtype=torch.int64)
    items = torch.stack([torch.arange(2, 12), torch.full((10,), 2), torch.full((10,), 2)], dim=1)

    def distance(strength: float) -> float:
        new = found[strength].models.two_tower
        with torch.no_grad():
            if method == "penalty":
                change = new.user_knowledge(user, behaviours) - old.user_knowledge(user, behaviours)
                return float(change.abs().mean())
            logits = [
                model.user_knowledge(user, behaviours) @ model.item_knowledge(items).T
                for model in (new, old)
            ]
            return float((logits[0] - logits[1]).abs().mean())

    assert distance(100.0) < 0.8 * distance(0.0)


@pytest.mark.parametrize("method", ["penalty", "distillation"])
def test_the_extra_loss_is_zero_where_nothing_has_changed_and_takes_new_ids(method: str) -> None:
    days = tiny_days()
    state, old = (start(days[1], CONFIG, STUDENTS) for _ in range(2))
    extra = hold_to(state, old.models, method, 2.0)
    rows = state.features.encode(days[1])
    rng = np.random.default_rng(0)
    none = np.full((64, 3), -1, dtype=np.int64)
    batch = make_batch(rows, state.features, np.arange(64), none, 0.0, rng)
    for name in STUDENTS:
        logits = state.models.get_submodule(name)(batch)
        assert extra(name, batch, logits).item() == pytest.approx(0.0, abs=1e-9)
    train_day(state, 5, days[5], extra)  # has users and items that the old version does not know
