"""The tutorial's commands and files run as they stand on the page; only the log is a tiny one."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gkc import Client
from gkc.lock import Lock
from keep.checkpoint import load_checkpoint
from keep.distillation import distilled
from keep.knowledge import student_knowledge
from keep.log import open_log
from keep.plugin import PlugIn
from tests.commands import BIN, Place, http_once, service
from tests.keep.tiny import DAYS, ITEMS, tiny_days, tiny_log, with_strings

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+) ?([\w.]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LOG_COMMAND, SERVE_COMMAND, URL = "keep simulate", "gkc serve --port 8000", "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Followed:
    """Somebody has done what the page says, and the service still runs."""

    folder: Path
    url: str
    printed: str


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    tiny_log(tmp_path / "logs" / "shop", categories=ITEMS)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    shell = [text for language, _, text in blocks if language == "sh"]
    serve = next(at for at, text in enumerate(shell) if text.strip() == SERVE_COMMAND)
    place = Place(f"file:{tmp_path / 'gkc-data'}", "default")
    for line in "".join(shell[:serve]).splitlines():
        if not line.startswith(LOG_COMMAND):
            run(line, tmp_path)
    with service(place) as url:
        for language, name, text in blocks:
            if language == "python":
                (tmp_path / name).write_text(text.replace(URL, url), encoding="utf-8")
        lines = "".join(shell[serve + 1 :]).splitlines()
        yield Followed(tmp_path, url, "".join(run(line, tmp_path) for line in lines))


def run(line: str, folder: Path) -> str:
    """Run a line of the page as a shell does in the folder; return what it printed."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_page_leads_where_it_says(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    # One test, for to follow the page takes half a minute, and workers share no fixture.
    _every_script_says_what_came_out(followed)
    _the_model_s_own_checkpoint_and_the_plugged_one_have_the_same_keys(followed)
    _the_running_service_serves_the_next_version_beside_it(followed)
    _online_scores_are_those_of_the_offline_knowledge(followed, monkeypatch)


def _every_script_says_what_came_out(followed: Followed) -> None:
    assert re.search(r"GAUC without knowledge: 0\.\d{4}\n", followed.printed)
    assert re.search(r"GAUC with knowledge: 0\.\d{4}\n", followed.printed)
    equal = re.search(
        r"([\d.]+)% are equal to the bit, none differs by more than (\S+)\n", followed.printed
    )
    assert equal is not None
    assert float(equal[1]) > 99
    assert float(equal[2]) < 5e-3
    assert re.search(r"best of \d+ items for user -?\d+: \[(\d+, ){4}\d+\]", followed.printed)


def _the_model_s_own_checkpoint_and_the_plugged_one_have_the_same_keys(
    followed: Followed,
) -> None:
    alone = torch.load(followed.folder / "my_model.pt")
    plugged = torch.load(followed.folder / "with_knowledge.pt")
    assert alone.keys() == plugged["model"].keys()
    assert Lock.read(followed.folder / "with_knowledge.gkc-lock").only_version() == "day-7"


def wait_until_served(url: str, version: str) -> None:
    """A new version is answered 503 until it is loaded, within a second on a quiet machine."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = http_once.get(f"{url}/versions").json()["versions"]
        if any(one["version"] == version and one["ready"] for one in listed):
            return
        time.sleep(0.05)
    raise AssertionError(f"{version} is not served")


def _the_running_service_serves_the_next_version_beside_it(followed: Followed) -> None:
    wait_until_served(followed.url, "day-8")
    day = tiny_days(categories=ITEMS)[DAYS]
    u, i, c = day.user[:50], day.item[:50], day.category[:50]
    with Client(followed.url, timeout=30) as client:
        old, new = (client.knowledge(u=u, i=i, c=c, v=v).rows for v in ("day-7", "day-8"))
    assert old.shape == new.shape
    assert not np.array_equal(old, new)


def _online_scores_are_those_of_the_offline_knowledge(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(followed.folder)
    monkeypatch.syspath_prepend(str(followed.folder))
    for name in ("my_data", "my_model", "online"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    online = importlib.import_module("online")
    users, items, categories, _ = (column[:200] for column in online.TEST)
    mine = users == users[0]
    with Client(followed.url, timeout=30, lock="with_knowledge.gkc-lock") as client:
        asked = online.question(users[:1], items[mine], categories[mine])
        scores = online.Ranker(client).score(int(users[0]), items[mine], asked)

    saved = torch.load("with_knowledge.pt")
    model: nn.Module = online.MyModel()
    model.load_state_dict(saved["model"])
    plug_in = PlugIn(len(saved["plug_in"]["mean"]), 64)
    plug_in.load_state_dict(saved["plug_in"])
    plug_in.attach(model.get_submodule("first"))
    state = distilled(load_checkpoint(Path("checkpoints/day-7")), open_log(Path("logs/shop")))
    rows = student_knowledge(state, users[mine], items[mine], categories[mine], as_stored=True)
    plug_in.feed(torch.from_numpy(rows))
    with torch.inference_mode():
        expected = model(torch.from_numpy(users[mine]), torch.from_numpy(items[mine])).numpy()
    assert len(scores) > 1
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_of_strings_the_page_s_loader_asks_as_the_store_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    log = with_strings(tiny_log(tmp_path / "numbers"), tmp_path / "logs" / "shop")
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    (loader,) = (text for _, name, text in BLOCK.findall(page) if name == "my_data.py")
    loaded: dict[str, Any] = {}
    exec(loader, loaded)
    *ids, _ = loaded["TEST"]
    asked = loaded["question"](*ids)
    day = tiny_days()[log.info.test_day]
    for key, kind in {"u": "user", "i": "item", "c": "category"}.items():
        source = getattr(day, kind)[day.sub_domain].tolist()
        assert asked[key].to_pylist() == [f"{kind} {value}" for value in source]


def test_every_file_of_the_page_is_run_or_imported() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = [name for language, name, _ in BLOCK.findall(page) if language == "python"]
    for name in names:
        module = name.removesuffix(".py")
        assert f"python {name}\n" in page or f"from {module} import" in page, name
    assert len(names) == 6
    assert page.count("```") == 2 * len(BLOCK.findall(page))
