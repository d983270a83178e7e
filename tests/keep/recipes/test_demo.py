"""The demo on a tiny log, through the real commands; the real one is ``make demo``."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from keep.comparison import Result
from keep.gauc import Gauc
from keep.recipes import demo as demo_recipe
from keep.recipes.demo import JSON, Demo, DemoError, main, post, run, summarise
from tests.commands import Place, done, free_port, service
from tests.keep.tiny import tiny_log


def results(clicked: float, taught: float) -> list[Result]:
    """Make a comparison with two rankings."""
    return [
        Result(name, (Gauc(value, 10, 2, 100, 0.5),))
        for name, value in (("item click rate", clicked), ("teacher's click logit", taught))
    ]


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.setattr(demo_recipe, "VERSIONS", {2: "tiny-day2", 3: "tiny-day3"})
    monkeypatch.setattr(demo_recipe, "REQUESTS", 3)
    monkeypatch.setattr(demo_recipe, "SEEDS", (1,))
    work = tmp_path / "work"
    work.mkdir()
    return Demo(work, f"file:{tmp_path / 'store'}", "demo")


@pytest.mark.slow
def test_the_whole_main_job_ends_with_figures_and_leaves_no_version(
    demo: Demo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = tiny_log(tmp_path / "log")
    seen: list[Result] = []

    def keep_results(demo: Demo, log: object, found: list[Result]) -> None:
        seen.extend(found)

    # Whether a teacher of 1,200 impressions beats the click rate is no matter of this test.
    monkeypatch.setattr(demo_recipe, "summarise", keep_results)
    run(demo, log.path, tidy=True)
    printed = capfd.readouterr().out
    assert len(seen) == 6
    assert "equal to the bit in both formats" in printed
    assert "'tiny-day2': '" in printed
    assert demo.exported == ["tiny-day2", "tiny-day3"]
    listed = done("gkc", "versions", "list", "--json", place=Place(demo.store, "demo"))
    assert json.loads(listed)["versions"] == []


def test_a_teacher_that_does_not_beat_the_click_rate_fails_the_demo(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tiny_log(tmp_path / "log")
    demo.seconds = {"fetch": 2.0, "ask": 1.0, "evaluate": 3.0}
    summarise(demo, log, results(0.6, 0.7))
    printed = capsys.readouterr().out
    assert log.info.source in printed
    assert "fetch (download and conversion) 2.0 s, all the rest 4.0 s" in printed
    with pytest.raises(DemoError, match="does not beat"):
        summarise(demo, log, results(0.7, 0.7))


def test_a_service_that_refuses_or_is_gone_fails_the_demo(tmp_path: Path) -> None:
    body: dict[str, object] = {"u": 1, "i": [2], "v": "none"}
    with service(Place(f"file:{tmp_path}/store", "default"), wait=False) as url:
        answering = closing(HTTPConnection(url.removeprefix("http://")))
        with answering as connection, pytest.raises(DemoError, match="knowledge answered"):
            post(connection, body, JSON)
    with (
        closing(HTTPConnection("127.0.0.1", free_port())) as connection,
        pytest.raises(DemoError, match="was not answered"),
    ):
        post(connection, body, JSON)


def test_a_command_that_fails_ends_the_demo_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "log"
    broken.mkdir()
    (broken / "log.json").write_text("{}")
    assert main(["--log-cache", str(broken)]) == 1
    assert capfd.readouterr().err.startswith("demo: ")
