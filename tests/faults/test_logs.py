"""Whatever fails, and with whatever words: logs and answers tell nothing of what was planted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from gkc.logs import set_up_logging
from gkc.store import open_reader
from tests.commands import free_port
from tests.fakes import UnreliableReader
from tests.gkc.http.running import ask, eventually, running
from tests.gkc.world import STRINGS, make_world, named

PLANTED = "hunter2"
QUESTION = {"u": PLANTED, "i": [named("item", 11, STRINGS[3]), PLANTED], "c": PLANTED, "v": "v1"}


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Return what reads all that a service's process has written to standard error."""
    written: list[str] = []
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    set_up_logging()

    def read() -> str:
        written.append(capsys.readouterr().err)
        return "".join(written)

    yield read
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("operation", "event"),
    [
        ("catalogue", "catalogue_not_understood"),
        ("manifest", "generation_not_loaded"),
        ("item_table", "generation_not_loaded"),
        ("fetch_users", "request_failed"),
    ],
)
async def test_an_error_that_nobody_foresaw(
    tmp_path: Path, log: Callable[[], str], operation: str, event: str
) -> None:
    url = f"file:{tmp_path / 'store'}"
    make_world(strings=STRINGS[3]).publish(url)
    reader = UnreliableReader(open_reader(url))
    error = ValueError(f"no such user: {PLANTED}")
    ready = operation == "fetch_users"
    if not ready:
        reader.failures[operation] = error
    async with running(url, reader=reader, ready=ready, request_timeout_ms=50) as (client, _):
        reader.failures[operation] = error

        async def is_logged() -> bool:
            response = await ask(client, QUESTION)
            assert response.status_code in (500, 503)
            assert PLANTED not in response.text + (await client.get("/readyz")).text
            return event in log()

        await eventually(is_logged)
    assert '"cause": "ValueError"' in log()
    assert '"stack": ' in log()
    assert PLANTED not in log()


async def test_the_password_of_a_store_that_is_away(log: Callable[[], str]) -> None:
    url = f"redis://:{PLANTED}@127.0.0.1:{free_port()}/0"
    async with running(url, ready=False) as (client, _):

        async def is_logged() -> bool:
            return "catalogue_not_read" in log()

        await eventually(is_logged)
        response = await ask(client, QUESTION)
        assert response.status_code == 503
        assert PLANTED not in response.text + (await client.get("/readyz")).text
    assert "request_failed" in log()
    assert PLANTED not in log()
