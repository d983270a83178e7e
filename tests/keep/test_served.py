"""Knowledge read from a real service equals what the students compute, stored as f16."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from gkc.errors import GkcError
from keep.bundle import bundle
from keep.checkpoint import Pretraining
from keep.log import Day, Log
from keep.recipes.pretrain import pretrain
from keep.served import SAFETENSORS, ServedKnowledge, ServiceError, decode_safetensors
from tests.commands import Place, export, free_port, service
from tests.keep.tiny import CONFIG, tiny_log


@dataclass(frozen=True)
class Served:
    url: str
    log: Log
    state: Pretraining


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("served")
    log = tiny_log(folder / "log")
    state = pretrain(log, folder / "ckpt", config=CONFIG)
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
    with ServedKnowledge(served.url, "day3", chunk_rows=150) as knowledge:
        found = knowledge(day.user, day.item, day.category)
        counts = knowledge.status_counts.copy()
    expected = offline(served.state, day)
    assert found.shape == (400, 3 * CONFIG.dim + CONFIG.category_dim)
    assert found.dtype == np.float32
    # A last bit of f32 may tip a value to the next f16.
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)
    assert counts.tolist() == [[0, 400, 0]] * 4


def test_ids_that_were_not_exported_have_the_default_vectors(served: Served) -> None:
    one = np.array([123456789])
    with ServedKnowledge(served.url, "day3") as knowledge:
        found = knowledge(one, one, one)
        assert knowledge.status_counts.tolist() == [[0, 0, 1]] * 4
    assert np.abs(found).sum() > 0


def test_our_decoder_agrees_with_the_safetensors_library(served: Served) -> None:
    day = served.log.day(3)
    body: dict[str, object] = {"u": int(day.user[0]), "i": day.item[:7].tolist(), "v": "day3"}
    for extra in ({}, {"layout": "factored"}):
        with ServedKnowledge(served.url, "day3") as knowledge:
            content = knowledge.ask({**body, **extra}, SAFETENSORS)
        expected = safetensors.numpy.load(content)
        found = decode_safetensors(content)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            np.testing.assert_array_equal(found[name], tensor)


def test_json_answers_come_through_too(served: Served) -> None:
    day = served.log.day(3)
    body: dict[str, object] = {"u": int(day.user[0]), "i": [int(day.item[0])], "v": "day3"}
    with ServedKnowledge(served.url, "day3") as knowledge:
        answer = json.loads(knowledge.ask(body, "application/json"))
    assert len(answer["knowledge"][0]) == 3 * CONFIG.dim + CONFIG.category_dim


def test_an_unknown_version_is_an_error_that_says_what_came(served: Served) -> None:
    one = np.array([1])
    with (
        ServedKnowledge(served.url, "day4") as knowledge,
        pytest.raises(ServiceError, match=r"answered 404.*day3"),
    ):
        knowledge(one, one, one)


def test_no_service_is_an_error_that_says_so() -> None:
    one = np.array([1])
    with (
        ServedKnowledge(f"http://127.0.0.1:{free_port()}", "v") as knowledge,
        pytest.raises(GkcError, match="is gkc serve on"),
    ):
        knowledge(one, one, one)


def test_a_service_that_does_not_answer_in_time_is_an_error() -> None:
    one = np.array([1])
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ServedKnowledge(
            f"http://127.0.0.1:{silent.getsockname()[1]}", "v", timeout_seconds=0.05
        ) as knowledge,
        pytest.raises(ServiceError, match="timed out"),
    ):
        knowledge(one, one, one)


def test_no_row_needs_no_request() -> None:
    none = np.empty(0, dtype=np.int64)
    with ServedKnowledge("http://127.0.0.1:1", "v") as knowledge:
        assert knowledge(none, none, none).shape == (0, 0)
