from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from exporter.errors import VerificationError
from exporter.sample import Sample
from exporter.verify import verify_generation
from gkc.store import GenerationManifest, ItemBlock, UserBlock
from tests.exporter.bundles import build
from tests.exporter.conftest import Export
from tests.exporter.places import Place, stored


@pytest.fixture
def manifest(place: Place, export: Export, tmp_path: Path) -> GenerationManifest:
    export(build(tmp_path / "bundle"), place)
    return stored(place, "v1", [], []).manifest


def verify(place: Place, manifest: GenerationManifest, sample: Sample) -> int:
    counted: list[int] = []
    verify_generation(place.url, place.namespace, manifest, sample, counted.append)
    return sum(counted)


def zero_item(manifest: GenerationManifest, item: int) -> ItemBlock:
    k_i = np.zeros((1, manifest.spec.vector_stride), np.uint8)
    return ItemBlock(np.array([item]), k_i, np.zeros(1, np.int64), np.ones(1, np.bool_))


def zero_user(manifest: GenerationManifest, user: int) -> UserBlock:
    spec = manifest.spec
    return UserBlock(
        np.array([user]),
        np.zeros((1, spec.vector_stride), np.uint8),
        np.zeros(2, np.int64),
        np.zeros(0, np.int64),
        np.zeros((0, spec.category_stride), np.uint8),
    )


def test_all_rows_are_read_again(place: Place, manifest: GenerationManifest) -> None:
    assert verify(place, manifest, Sample(manifest.spec)) > 0


def test_another_manifest_is_found(place: Place, manifest: GenerationManifest) -> None:
    other = replace(manifest, totals=replace(manifest.totals, users=11))
    with pytest.raises(VerificationError, match="manifest is not the one sealed"):
        verify(place, other, Sample(manifest.spec))


@pytest.mark.parametrize("item", [0, 31337])
def test_another_item_is_found(item: int, place: Place, manifest: GenerationManifest) -> None:
    sample = Sample(manifest.spec)
    sample.items.append(zero_item(manifest, item))
    with pytest.raises(VerificationError, match=f"item {item} reads back otherwise"):
        verify(place, manifest, sample)


@pytest.mark.parametrize("user", [100, 31337])
def test_another_user_is_found(user: int, place: Place, manifest: GenerationManifest) -> None:
    sample = Sample(manifest.spec)
    sample.users.append(zero_user(manifest, user))
    with pytest.raises(VerificationError, match=f"user {user} reads back otherwise"):
        verify(place, manifest, sample)
