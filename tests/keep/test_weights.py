"""Weights are read; code in their place is not run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from keep.weights import DAMAGE, load_weights
from tests.keep.hostile import save_hostile


def test_tensors_and_plain_values_are_read(tmp_path: Path) -> None:
    torch.save({"weights": {"w": torch.ones(2)}, "options": {"hidden": (2, 3)}}, tmp_path / "w.pt")
    found = load_weights(tmp_path / "w.pt")
    assert found["options"] == {"hidden": (2, 3)}
    assert torch.equal(found["weights"]["w"], torch.ones(2))


def test_code_is_refused_in_one_line_and_not_run(tmp_path: Path) -> None:
    save_hostile(tmp_path / "w.pt")
    torch.load(tmp_path / "w.pt", weights_only=False)
    (tmp_path / "ran").rmdir()  # so it does run where it is let
    with pytest.raises(ValueError, match=r"^w.pt holds other things than .*: it could run code$"):
        load_weights(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_a_file_cut_short_or_missing_is_damage(tmp_path: Path) -> None:
    torch.save(torch.ones(2), tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    for kept in (0, 3, 40, len(whole) - 20):
        (tmp_path / "w.pt").write_bytes(whole[:kept])
        with pytest.raises(DAMAGE):
            load_weights(tmp_path / "w.pt")
    with pytest.raises(DAMAGE):
        load_weights(tmp_path / "none.pt")
