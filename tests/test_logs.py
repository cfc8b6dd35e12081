"""The form of log lines, and how often they come."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from meshproxy import logs


@pytest.fixture
def stream() -> Iterator[io.BytesIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.BytesIO()
    logs.configure("info", stream)
    yield stream
    logs.configure("info")
    logging.captureWarnings(False)
    root.handlers = handlers
    root.setLevel(level)


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_event_logger_and_fields(stream: io.BytesIO) -> None:
    logs.get("meshproxy.test").bind(trace_id="ab").warning("upstream refused", port=80)
    (line,) = lines(stream)
    time = datetime.fromisoformat(line.pop("timestamp"))
    assert time.utcoffset() == timedelta(0)
    assert list(line.items()) == [
        ("level", "warning"),
        ("event", "upstream refused"),
        ("logger", "meshproxy.test"),
        ("trace_id", "ab"),
        ("port", 80),
    ]


def test_the_level_can_change_while_loggers_are_in_use(stream: io.BytesIO) -> None:
    log = logs.get("a")
    log.debug("one")
    logs.configure("debug", stream)
    log.debug("two")
    logs.configure("error", stream)
    log.warning("three")
    log.error("four")
    assert [line["event"] for line in lines(stream)] == ["two", "four"]


def test_an_exception_is_part_of_its_line(stream: io.BytesIO) -> None:
    log = logs.get("a")
    try:
        raise KeyError("missing")
    except KeyError as error:
        log.error("failed", exc_info=True)
        log.error("failed", exc_info=error)
    first, second = lines(stream)
    assert "KeyError: 'missing'" in first["exception"]
    assert first["exception"] == second["exception"]


@pytest.mark.parametrize("value", [object(), "\udcff", 2**70, {1: "\udcff"}, float("nan"), b"\xff"])
def test_any_value_can_be_logged(stream: io.BytesIO, value: object) -> None:
    logs.get("a").info("event", value=value)
    (line,) = lines(stream)
    assert line["event"] == "event"
    assert "value" in line


def test_libraries_come_out_in_the_same_form(stream: io.BytesIO) -> None:
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").debug("hidden")
    logging.getLogger("aiohttp.access").info("hidden")
    (line,) = lines(stream)
    assert (line["level"], line["event"], line["logger"]) == ("warning", "slow callback", "asyncio")


def test_a_librarys_mistake_in_logging_is_no_error(stream: io.BytesIO) -> None:
    logs.configure("info", stream)  # Alone: the test runner's own handler does raise here.
    logging.getLogger("asyncio").warning("%d", "text")
    assert lines(stream)[0]["event"] == "%d"


def test_a_log_that_cannot_be_written_is_lost_quietly(stream: io.BytesIO) -> None:
    stream.close()
    logs.get("a").info("event")
    logs.configure("info", other := io.BytesIO())
    logs.get("a").info("again")
    assert len(lines(other)) == 1


class TestLimiter:
    def test_one_line_in_an_interval_and_the_number_held_back(self) -> None:
        now = 0.0
        limiter = logs.Limiter(10.0, lambda: now)
        assert [limiter.allow("a") for _ in range(3)] == [0, None, None]
        now = 9.9
        assert limiter.allow("a") is None
        now = 10.0
        assert limiter.allow("a") == 3
        now = 20.0
        assert limiter.allow("a") == 0

    def test_keys_do_not_disturb_each_other(self) -> None:
        limiter = logs.Limiter(10.0, lambda: 0.0)
        assert [limiter.allow(key) for key in "abab"] == [0, 0, None, None]

    def test_the_key_unused_for_longest_is_forgotten(self) -> None:
        limiter = logs.Limiter(10.0, lambda: 0.0, keys=2)
        assert [limiter.allow(key) for key in "abac"] == [0, 0, None, 0]
        assert limiter.allow("a") is None
        assert limiter.allow("b") == 0
