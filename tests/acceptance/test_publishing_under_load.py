"""One version is exported again and again while requests run: no answer mixes, none fails."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from tests.acceptance.bundles import Recipe, Truth, write_bundle
from tests.commands import Place, export, service

EXPORTS = 10
SALT_STEP = 4.0
"""Each export adds this to every output of its models, so that a vector tells its generation."""
PAUSE_SECONDS = 0.01
"""Between questions: some are under way whenever a generation changes, and exports go on."""


@dataclass
class Asker:
    """Asks one question over and over from a thread, and keeps what came back, equals once."""

    url: str
    body: dict[str, Any]
    answers: set[bytes] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until told to stop."""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self.stop.is_set():
                answer = client.post(
                    "/knowledge", json=self.body, headers={"Accept": "application/x-safetensors"}
                )
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code}: {answer.text}")
                    continue
                self.answers.add(answer.content)
                time.sleep(PAUSE_SECONDS)


def _generation(content: bytes) -> str:
    """Return the generation that a safetensors answer names for version ``v``."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    named: str = json.loads(metadata["versions"])["v"]
    return named


@pytest.mark.parametrize("workers", [1, 2])
def test_ten_exports_of_one_version_under_load(workers: int, place: Place, tmp_path: Path) -> None:
    truths: dict[str, Truth] = {}
    for k in range(EXPORTS + 1):
        recipe = Recipe("load", salt=SALT_STEP * k, users=300, unknown=False)
        truth = write_bundle(tmp_path / f"bundle-{k}", recipe)
        if k == 0:
            first = export(tmp_path / "bundle-0", "v", place, "--dtype", "f32")["generation"]
            truths[first] = truth
        else:
            truths[f"later {k}"] = truth
    users = [*range(1, 201)] * 2
    items = [*range(1, 41)] * 10
    body = {"u": users, "i": items, "c": 2, "v": "v"}
    with service(place, "--workers", workers) as url:
        askers = [Asker(url, body) for _ in range(2)]
        threads = [threading.Thread(target=a.run) for a in askers]
        for thread in threads:
            thread.start()
        try:
            for k in range(1, EXPORTS + 1):
                bundle = tmp_path / f"bundle-{k}"
                # A grace of a second: a reader has that long to notice and to finish.
                done = export(bundle, "v", place, "--dtype", "f32", grace_seconds=1)
                truths[done["generation"]] = truths.pop(f"later {k}")
            time.sleep(1.5)
        finally:
            for asker in askers:
                asker.stop.set()
            for thread in threads:
                thread.join()
    assert [asker.failures for asker in askers] == [[], []]
    answers = set[bytes]().union(*(asker.answers for asker in askers))
    _check(answers, truths, users, items)
    seen = {_generation(content) for content in answers}
    assert len(seen) >= 3, "the test asked while generations changed"
    assert max(truths) in seen, "the last one was served"


def _check(
    answers: set[bytes],
    truths: dict[str, Truth],
    users: list[int],
    items: list[int],
) -> None:
    """Every row of an answer is that of the generation which the answer names."""
    expected = {g: _knowledge(t, users, items) for g, t in truths.items()}
    for content in answers:
        rows = safetensors.numpy.load(content)["knowledge"]
        product = rows[:, 16:24]
        np.testing.assert_array_equal(product, rows[:, :8] * rows[:, 8:16])
        np.testing.assert_allclose(
            np.delete(rows, np.s_[16:24], axis=1),
            expected[_generation(content)],
            rtol=1e-5,
            atol=2e-6,
        )


def _knowledge(truth: Truth, users: list[int], items: list[int]) -> npt.NDArray[np.float64]:
    """Return K_u, K_i and K_uc of category 2 side by side, zeros where a pair was not exported."""
    absent = np.zeros(truth.category_dim)
    return np.stack(
        [
            np.concatenate([truth.users[u], truth.items[i], truth.pairs.get((u, 2), absent)])
            for u, i in zip(users, items, strict=True)
        ]
    )
