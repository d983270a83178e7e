"""Knowledge read from a real service equals what the students compute, stored as f16.

The log's ids are strings: those of integers are asked for in `test_serving`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from gkc.errors import VersionNotFoundError
from keep.bundle import bundle
from keep.checkpoint import Pretraining
from keep.log import Day, Log
from keep.recipes.pretrain import pretrain
from keep.served import ServedKnowledge
from tests.commands import Place, export, service
from tests.keep.tiny import CONFIG, tiny_log, with_strings


@dataclass(frozen=True)
class Served:
    url: str
    log: Log
    state: Pretraining


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("served")
    log = with_strings(tiny_log(folder / "numbers"), folder / "log")
    state = pretrain(log, folder / "ckpt", until=3, config=CONFIG)
    bundle(state, log, folder / "bundle")
    place = Place(f"file:{folder / 'store'}", "default")
    export(folder / "bundle", "day3", place)
    with service(place) as url:
        yield Served(url, log, state)


def offline(state: Pretraining, day: Day) -> np.ndarray:
    """Compute equation 6 with torch, through the f16 that the store holds."""
    features, models = state.features, state.models
    rows = features.encode(day)
    user, item = torch.from_numpy(rows.user), torch.from_numpy(rows.item)
    behaviours = torch.from_numpy(features.history[rows.user].astype(np.int64))
    with torch.inference_mode():
        k_u = models.two_tower.user_knowledge(user, behaviours).half().float()
        k_i = models.two_tower.item_knowledge(item).half().float()
        k_uc = models.category.knowledge(user, behaviours, item[:, 2]).half().float()
    return torch.cat([k_u, k_i, k_u * k_i, k_uc], dim=-1).numpy()


def test_served_knowledge_is_equation_6_of_the_students(served: Served) -> None:
    day = served.log.day(3)
    with ServedKnowledge(served.url, "day3", served.log.named) as knowledge:
        found = knowledge(day.user, day.item, day.category)
    expected = offline(served.state, day)
    assert found.shape == (400, 3 * CONFIG.dim + CONFIG.category_dim)
    assert found.dtype == np.float32
    # A last bit of f32 may tip a value to the next f16.
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)


def test_whoever_asks_names_the_strings_that_were_imported(served: Served) -> None:
    day = served.log.day(3)
    kinds = zip(("user", "item", "category"), day.ids, strict=True)
    u, i, c = (served.log.named(kind, ids).to_pylist() for kind, ids in kinds)
    assert re.fullmatch(r"user -?\d+", u[0])
    asked = httpx.post(f"{served.url}/knowledge", json={"u": u, "i": i, "c": c, "v": "day3"})
    with ServedKnowledge(served.url, "day3", served.log.named) as knowledge:
        rows = knowledge(*day.ids)
    np.testing.assert_array_equal(np.array(asked.json()["knowledge"], dtype=np.float32), rows)


def test_statuses_of_all_answers_are_counted(served: Served) -> None:
    day, one = served.log.day(3), np.array([1])
    with ServedKnowledge(served.url, "day3", served.log.named) as knowledge:
        knowledge(day.user, day.item, day.category)
    assert knowledge.status_counts.tolist() == [[0, 400, 0]] * 4
    with ServedKnowledge(served.url, "day3", lambda kind, _: [f"no {kind}"]) as knowledge:
        unknown = knowledge(one, one, one)
    assert knowledge.status_counts.tolist() == [[0, 0, 1]] * 4
    assert np.abs(unknown).sum() > 0, "ids that were not exported have the default vectors"


def test_without_categories_an_item_s_own_is_taken(served: Served) -> None:
    day = served.log.day(3)
    with ServedKnowledge(served.url, "day3", served.log.named) as knowledge:
        own = knowledge(day.user, day.item)
        np.testing.assert_array_equal(own, knowledge(day.user, day.item, day.category))


def test_no_row_has_a_width_nevertheless(served: Served) -> None:
    none = np.empty(0, dtype=np.int64)
    with ServedKnowledge(served.url, "day3", served.log.named) as knowledge:
        assert knowledge(none, none, none).shape == (0, 3 * CONFIG.dim + CONFIG.category_dim)


def test_an_unknown_version_is_an_error_that_says_which_there_are(served: Served) -> None:
    one = np.array([1])
    with (
        ServedKnowledge(served.url, "day4") as knowledge,
        pytest.raises(VersionNotFoundError, match="day3"),
    ):
        knowledge(one, one, one)
