"""What `gkc.logs` promises: one line an event on standard error, JSON unless a person reads it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextvars import copy_context

import pytest
import structlog

from gkc.errors import StoreFullError
from gkc.logs import REPETITIONS, REQUEST_ID, log_as_the_caller_does, set_up_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_event_is_one_json_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    log = structlog.get_logger("gkc")
    of_a_request = copy_context()
    of_a_request.run(REQUEST_ID.set, "r1")
    of_a_request.run(log.info, "generation_published", version="v", rows=3)
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


class _Clock:
    """Stands in for the module `time`."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def test_what_repeats_is_counted_not_told_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    monkeypatch.setattr("gkc.logs.time", clock)
    set_up_logging()
    log = structlog.get_logger("gkc.http")

    def fail(request_id: str, cause: str = "no answer") -> None:
        of_a_request = copy_context()
        of_a_request.run(REQUEST_ID.set, request_id)
        of_a_request.run(log.error, "request_failed", cause=cause, code=503)

    def told() -> list[tuple[str, str, int]]:
        events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [(e["event"], e.get("request_id", ""), e.get("repeated", 0)) for e in events]

    for number in range(5):
        fail(f"r{number}")
        log.info("generation_loaded")  # what is no fault is never left out
    fail("s0", "damaged")
    first, *loaded, other = told()
    assert (first, other) == (("request_failed", "r0", 0), ("request_failed", "s0", 0))
    assert loaded == [("generation_loaded", "", 0)] * 5
    clock.seconds = 11.0
    fail("r5")
    assert told() == [("request_failed", "r4", 4)]
    clock.seconds = 22.0
    log.info("store_answers")
    assert told() == [("request_failed", "r5", 1), ("store_answers", "", 0)]
    clock.seconds = 33.0
    fail("r6")
    fail("r7")
    assert told() == [("request_failed", "r6", 0)]
    REPETITIONS.tell()  # as when the process ends
    assert told() == [("request_failed", "r7", 1)]


def test_setting_up_twice_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    set_up_logging()
    structlog.get_logger().info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("hunter2"), "ValueError"),
        (OSError(24, "hunter2"), "OSError: Too many open files"),
        (StoreFullError("redis", "it is full"), "store redis is not available: it is full"),
    ],
)
def test_an_error_tells_its_cause_and_its_place_and_not_what_it_may_say(
    error: Exception, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging()
    for logger in (structlog.get_logger("gkc"), logging.getLogger("uvicorn.error")):
        try:
            raise error
        except type(error):
            logger.exception("failed")
        text = capsys.readouterr().err
        event = json.loads(text)
        assert event["cause"].startswith(cause)
        assert "in test_an_error_tells" in event["stack"]
        assert "hunter2" not in text


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
def test_a_stack_shows_no_value(kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = kind()
    monkeypatch.setattr("sys.stderr", stream)
    set_up_logging()

    def fail(password: str) -> None:
        raise ValueError(password)

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
