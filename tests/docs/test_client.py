"""Every block of Python in docs/client.md runs as it stands, against a real service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest

import gkc.errors
from gkc.store import Origin
from tests.commands import Place, service
from tests.gkc.world import make_world

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
README_BLOCKS = [
    block
    for block in re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    if "gkc" in block
]
URL, STORE = "http://127.0.0.1:8000", "file:./gkc-data"
SAID = (
    "(3, 15)",
    "[",
    "['click', 'cart'] [[",
    "(3, 15) {'20211220': ",
    "'20211221' is not in the store",
    "Counter({",
)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield a store that holds version 20211220, and a service of it, by the page's URLs."""
    store = f"file:{tmp_path_factory.mktemp('client') / 'store'}"
    tasks = [{"name": "click", "dim": 1}, {"name": "cart", "dim": 3}]
    make_world("20211220", origin=Origin(tasks=tasks)).publish(store)
    with service(Place(store, "default")) as served:
        yield {URL: served, STORE: store}


def run(block: str, urls: dict[str, str]) -> str:
    """Run a block with warnings as errors; return what it printed."""
    code = reduce(lambda text, pair: text.replace(*pair), urls.items(), block)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(("block", "said"), list(zip(BLOCKS, SAID, strict=True)))
def test_it_runs_as_it_stands(block: str, said: str, urls: dict[str, str]) -> None:
    assert URL in block or STORE in block
    assert said in run(block, urls)


def test_the_readme_asks_in_the_same_way(urls: dict[str, str]) -> None:
    (block,) = README_BLOCKS
    assert "(500, 15)" in run(block, urls)


def test_every_error_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(\w+Error)`", PAGE)
    assert len(named) > 7
    assert [name for name in named if not hasattr(gkc.errors, name)] == []
