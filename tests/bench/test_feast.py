from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.feast import rows_of
from bench.feast_found import ROWS, SHOWN, Found, section, vectors_of
from bench.feast_store import Peer, feast_serve, write_repository, write_vectors
from bench.feast_views import FORMS, KINDS, feast_question
from bench.processes import Server, free_port, our_service, separate_cores, serving
from bench.world import VERSION, Shape, World, export
from keep.served import SAFETENSORS, ServedKnowledge, decode_safetensors
from tests.bench.loads import a_load

SHAPE = Shape(users=5, items=30, pairs=3, categories=4, dim=8)
NOBODY = Server("nobody", 0, 6399)

Encode = Callable[[NDArray[np.float16]], Any]


def as_bytes(vector: NDArray[np.float16]) -> str:
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def as_floats(vector: NDArray[np.float16]) -> list[float]:
    values: list[float] = vector.astype(float).tolist()
    return values


def answer_with(question: dict[str, Any], folder: Path, encode: Encode) -> dict[str, Any]:
    """Answer as Feast's server does, from the files that it is filled with."""
    names, results = [], []
    for kind in KINDS:
        columns = np.load(folder / f"{kind.name}.npz")
        stored = zip(*(columns[key].tolist() for key in kind.keys), strict=True)
        held = dict(zip(stored, map(encode, columns["vectors"]), strict=True))
        asked = zip(*(question["entities"][key] for key in kind.keys), strict=True)
        names.append(kind.feature)
        results.append({"values": [held.get(key) for key in asked]})
    keys = list(question["entities"])
    names = keys + names
    results = [{"values": question["entities"][key]} for key in keys] + results
    return {"metadata": {"feature_names": names}, "results": results}


@pytest.mark.slow
def test_feast_is_filled_with_the_vectors_that_are_served(tmp_path: Path) -> None:
    store, port = f"file:{tmp_path}/store", free_port()
    export(tmp_path / "bundle", SHAPE, store)
    world = World(SHAPE, NOBODY, store, tmp_path)
    cores, _ = separate_cores()
    asked = world.questions(40, 3, seed=1)
    with serving("gkc serve", our_service(store, port), port, cores, "/readyz") as service:
        write_vectors(world, service, tmp_path)
        with ServedKnowledge(f"http://127.0.0.1:{port}", VERSION) as knowledge:
            answers = [decode_safetensors(knowledge.ask(body, SAFETENSORS)) for body in asked]
    for body, answer in zip(asked, answers, strict=True):
        assert set(answer["status"][:, 3].tolist()) == {0, 1}, "some pairs were not exported"
        categories = [world.category_of(item) for item in body["i"]]
        for form, encode in zip(FORMS, (as_bytes, as_floats), strict=True):
            question = feast_question(body["u"], body["i"], categories, form)
            rows = rows_of(answer_with(question, tmp_path, encode), SHAPE.dim)
            np.testing.assert_array_equal(rows, answer["knowledge"])
    written = sum(len(np.load(tmp_path / f"{kind.name}.npz")["vectors"]) for kind in KINDS)
    assert written == vectors_of(SHAPE)


def test_a_question_names_a_feature_of_every_kind_and_a_key_for_every_row() -> None:
    assert feast_question(7, [11, 12], [3, 3], "bytes") == {
        "features": ["user_bytes:k_u", "item_bytes:k_i", "user_category_bytes:k_uc"],
        "entities": {"user_id": [7, 7], "item_id": [11, 12], "category_id": [3, 3]},
    }


def test_the_repository_is_on_the_server_that_holds_the_version(tmp_path: Path) -> None:
    repository = write_repository(World(SHAPE, NOBODY, NOBODY.name, tmp_path))
    configuration = json.loads((repository / "feature_store.yaml").read_text())
    assert configuration["online_store"]["connection_string"] == f"127.0.0.1:{NOBODY.port}"
    assert Path(configuration["registry"]["path"]).parent == repository


def test_what_feast_prints_goes_to_its_log(tmp_path: Path) -> None:
    feast = tmp_path / "feast"
    feast.write_text('#!/bin/sh\necho "$HOME $*" >&2\n')
    feast.chmod(0o755)
    done = subprocess.run(
        feast_serve(tmp_path, tmp_path, 81), check=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    logged = (tmp_path / "serve.log").read_text()
    assert logged.startswith(f"{tmp_path} --chdir {tmp_path} serve --port 81 ")


def peer_that(code: str, log: Path) -> subprocess.Popen[str]:
    with log.open("w") as printed:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
        )


def test_a_peer_is_asked_line_by_line(tmp_path: Path) -> None:
    code = (
        "import json\n"
        "print(json.dumps([['feast', '0.0']]), flush=True)\n"
        "assert json.loads(input()) == ['write', 'bytes', 1, 5]\n"
        "print(json.dumps([300, 1.5]), flush=True)\n"
        "assert json.loads(input()) == ['time_sdk', 'file', 60, 2]\n"
        "print(json.dumps([1.0, 2.0]), flush=True)\n"
    )
    with peer_that(code, tmp_path / "log") as process:
        peer = Peer(process, tmp_path / "log")
        assert peer.versions == {"feast": "0.0"}
        assert peer.write("bytes", 1, 5) == 200
        assert peer.time_sdk(Path("file"), 60, 2) == [1.0, 2.0]


def test_a_peer_that_ends_says_why(tmp_path: Path) -> None:
    with (
        peer_that("raise SystemExit('no Redis')", tmp_path / "log") as process,
        pytest.raises(SystemExit, match="no Redis"),
    ):
        Peer(process, tmp_path / "log")


def found_of(rounds: int) -> Found:
    """Feast takes 60 times our time as bytes, 200 times as floats; `factored` takes half ours."""
    found = Found()
    times = dict(zip(SHOWN, (1, 0.5, 60, 200), strict=True))
    for number in range(1, rounds + 1):
        for rows in ROWS:
            for side, slower in times.items():
                for concurrency in (1, 4):
                    ms = slower * number * concurrency
                    load = a_load(rate=1200 / (slower * number), p50_ms=ms, cpu_ms=ms)
                    found.loads[side, rows, concurrency].append(load)
            found.sdk_ms[rows].append(30.0 * number)
        found.ours_loaded.append(80.0 * number)
        found.feast_loaded.append(20.0)
    return found


def test_ratios_are_of_one_round_and_the_fastest_form_is_judged() -> None:
    told = section(Shape(), SHAPE, found_of(rounds=2), {"feast": "0.0"})
    by_name = {figure.name: figure for figure in told.figures}
    assert len(by_name) == len(told.figures)
    judged = {figure.name: figure.verdict for figure in told.figures if figure.verdict}
    assert judged == {
        "p50 over HTTP, Feast to ours, B = 500": "met",
        "throughput over HTTP, ours to Feast, concurrency 4, B = 500": "met",
    }
    for name, figure in by_name.items():
        if name.startswith("loading"):
            expected = [4.0, 8.0]
        elif "SDK" in name:
            expected = [30.0, 30.0]
        elif "Float32" in name:
            expected = [200.0, 200.0]
        else:
            expected = [120.0, 120.0] if "factored" in name else [60.0, 60.0]
        assert list(figure.values) == pytest.approx(expected), name
    assert "feast 0.0" in told.notes[-1]
    assert "Feast 90.00 (60.00 to 120.00) ms, 15 (10 to 20) requests/s" in told.notes[0]
