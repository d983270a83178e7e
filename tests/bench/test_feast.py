from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.exchange import answer_of
from bench.feast import (
    feast_question,
    feast_serving,
    fill,
    rows_of,
    section,
    write_repository,
    write_vectors,
)
from bench.processes import Server
from bench.stage import Stage
from bench.tables import KINDS
from bench.world import World, export, export_tables
from tests.bench.loads import TINY, a_load

NOBODY = Server("nobody", 0, 6399)


def answer_with(question: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Answer as Feast's server does, from the files that it is filled with."""
    names, results = list(question["entities"]), []
    results = [{"values": values} for values in question["entities"].values()]
    for kind, (_, keys, feature) in KINDS.items():
        columns = np.load(folder / f"{kind}.npz")
        vectors = [base64.b64encode(vector.tobytes()).decode() for vector in columns["vectors"]]
        stored = zip(*(columns[key].tolist() for key in keys), strict=True)
        held = dict(zip(stored, vectors, strict=True))
        asked = zip(*(question["entities"][key] for key in keys), strict=True)
        names.append(feature)
        results.append({"values": [held.get(key) for key in asked]})
    return {"metadata": {"feature_names": names}, "results": results}


@pytest.mark.slow
def test_feast_is_filled_with_the_vectors_that_are_served(tmp_path: Path) -> None:
    store = f"file:{tmp_path}/store"
    export(tmp_path / "bundle", TINY, store)
    world = World(TINY, NOBODY, tmp_path)
    asked = world.questions(40, 3, seed=1)
    with Stage() as stage:
        service = stage.serve(store)
        write_vectors(export_tables(store, tmp_path / "tables"), TINY, tmp_path)
        answers = [answer_of(service, body) for body in asked]
    for body, answer in zip(asked, answers, strict=True):
        assert set(answer["status"][:, 3].tolist()) == {0, 1}, "some pairs were not exported"
        rows = rows_of(answer_with(feast_question(world, body), tmp_path), TINY.dim)
        np.testing.assert_array_equal(rows, answer["knowledge"])
    written = sum(len(np.load(tmp_path / f"{kind}.npz")["vectors"]) for kind in KINDS)
    assert written == TINY.users * (1 + TINY.pairs) + TINY.items


def test_a_question_names_a_feature_of_every_kind_and_a_key_for_every_row(tmp_path: Path) -> None:
    world = World(TINY, NOBODY, tmp_path)
    assert feast_question(world, {"u": 7, "i": [11, 12]}) == {
        "features": ["user:k_u", "item:k_i", "user_category:k_uc"],
        "entities": {"user_id": [7, 7], "item_id": [11, 12], "category_id": [3, 0]},
    }


def test_the_repository_names_its_online_store_and_a_registry_of_its_own(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "feast", {"type": "sqlite"})
    configuration = json.loads((repository / "feature_store.yaml").read_text())
    assert configuration["online_store"] == {"type": "sqlite"}
    assert Path(configuration["registry"]["path"]).parent == repository


def pretend(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_what_feast_prints_goes_to_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(tmp_path / "feast", 'echo "$HOME $*" >&2')
    with (
        pytest.raises(SystemExit, match="feast serve did not start"),
        feast_serving(tmp_path, tmp_path, os.sched_getaffinity(0)),
    ):
        pass
    assert capfd.readouterr() == ("", "")
    logged = (tmp_path / "serve.log").read_text()
    assert logged.startswith(f"{tmp_path} --chdir {tmp_path} serve --port ")


def test_filling_tells_versions_or_why_it_failed(tmp_path: Path) -> None:
    pretend(tmp_path / "python", """echo "a warning"; echo '{"feast": "0.0"}'""")
    assert fill(tmp_path, tmp_path) == {"feast": "0.0"}
    pretend(tmp_path / "python", "echo no Redis >&2; exit 1")
    with pytest.raises(SystemExit, match="no Redis"):
        fill(tmp_path, tmp_path)


def test_ratios_are_of_one_round_and_500_rows_are_judged() -> None:
    runs = {}
    for side, slower in (("ours", 1), ("Feast", 60)):
        for rows in (50, 500):
            for under_way in (1, 4):
                ms = [slower * number * under_way for number in (1, 2)]
                runs[side, rows, under_way] = [
                    a_load(rate=1200 / one, p50_ms=one, cpu_ms=one) for one in ms
                ]
    told = section(runs, {"feast": "0.0"})
    by_name = {figure.name: figure for figure in told.figures}
    assert len(by_name) == len(told.figures)
    judged = {figure.name: figure.verdict for figure in told.figures if figure.verdict}
    assert judged == {
        "p50, Feast to ours, B = 500": "met",
        "requests/s, ours to Feast, 4 under way, B = 500": "met",
    }
    assert all(figure.values == pytest.approx([60, 60]) for figure in told.figures)
    assert "Feast 90.00 (60.00 to 120.00) ms" in told.notes[0]
    assert "feast 0.0" in told.notes[-1]
