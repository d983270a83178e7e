"""What `gkc.logs` promises: one line an event on standard error, JSON unless a person reads it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gkc.logs import log_as_the_caller_does, set_up_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_event_is_one_json_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    structlog.contextvars.bind_contextvars(request_id="r1")
    structlog.get_logger("gkc").info("generation_published", version="v", rows=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "generation_published",
        "level": "info",
        "version": "v",
        "rows": 3,
        "request_id": "r1",
    }


def test_the_standard_librarys_events_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    logging.getLogger("uvicorn.error").warning("port %d is taken", 80)
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["level"]) == ("port 80 is taken", "warning")


def test_lower_levels_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(logging.WARNING)
    structlog.get_logger().info("quiet")
    logging.getLogger("any").info("quiet")
    structlog.get_logger().error("loud")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "loud"


def test_setting_up_twice_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    set_up_logging()
    structlog.get_logger().info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_exception_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("request_failed")
    event = json.loads(capsys.readouterr().err)
    assert event["exception"].endswith("ValueError: broken")


def test_a_person_gets_a_readable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    set_up_logging()
    structlog.get_logger().info("generation_published", version="v")
    line = terminal.getvalue()
    assert "generation_published" in line
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)


@pytest.mark.parametrize("kind", [io.StringIO, _Terminal])
def test_a_traceback_shows_no_value_of_a_variable(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = kind()
    monkeypatch.setattr("sys.stderr", stream)
    set_up_logging()

    def fail(password: str) -> None:
        raise ValueError(len(password))

    try:
        fail("hunter" + "2")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "in fail" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_in_a_callers_process_events_go_where_its_logging_goes(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.reset_defaults()
    log_as_the_caller_does()
    caplog.set_level(logging.INFO)
    structlog.get_logger("gkc.store.mirror").info("mirror_built", path="/a b", rows=3)
    structlog.get_logger("gkc.store.mirror").debug("not_asked_for")
    assert caplog.record_tuples == [
        ("gkc.store.mirror", logging.INFO, 'event=mirror_built path="/a b" rows=3')
    ]
    assert capsys.readouterr().out == ""


def test_what_the_caller_set_up_stays() -> None:
    set_up_logging()
    before = structlog.get_config()
    log_as_the_caller_does()
    assert structlog.get_config() == before
