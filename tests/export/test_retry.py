"""Back-off, Retry-After and the bound in time."""

from __future__ import annotations

from typing import Any

import pytest

from meshproxy.export.exporter import PermanentError, RetryableError, SendResult
from meshproxy.export.retry import MAX_RETRY_AFTER, Retry, parse_retry_after


class Attempts:
    """Fails with the errors given, then succeeds; notes when it was called."""

    def __init__(self, time: Any, *errors: Exception) -> None:
        self.time = time
        self.errors = list(errors)
        self.at: list[float] = []
        self.failures: list[RetryableError] = []

    async def __call__(self) -> SendResult:
        self.at.append(self.time.now)
        if self.errors:
            raise self.errors.pop(0)
        return SendResult(1)


def retry(time: Any, retry_for: float = 60.0, jitter: float = 1.0) -> Retry:
    return Retry(retry_for, clock=time, sleep=time.sleep, uniform=lambda: jitter)


async def test_success_at_once_does_not_wait(fake_time: Any) -> None:
    attempts = Attempts(fake_time)
    assert await retry(fake_time).run(attempts, attempts.failures.append) == SendResult(1)
    assert fake_time.slept == []


@pytest.mark.parametrize(("jitter", "waits"), [(1.0, [1, 2, 4, 8, 10]), (0.0, [0.5, 1, 2, 4, 5])])
async def test_waits_double_up_to_a_bound_with_jitter(
    fake_time: Any, jitter: float, waits: list[float]
) -> None:
    attempts = Attempts(fake_time, *[RetryableError("down") for _ in range(5)])
    await retry(fake_time, jitter=jitter).run(attempts, attempts.failures.append)
    assert fake_time.slept == waits
    assert len(attempts.failures) == 5


async def test_last_attempt_is_at_the_end_of_the_time(fake_time: Any) -> None:
    attempts = Attempts(fake_time, *[RetryableError("down") for _ in range(99)])
    with pytest.raises(RetryableError):
        await retry(fake_time, retry_for=60).run(attempts, attempts.failures.append)
    assert attempts.at[-1] - attempts.at[0] == 60


async def test_permanent_error_is_not_retried(fake_time: Any) -> None:
    attempts = Attempts(fake_time, PermanentError("no", reason="rejected"))
    with pytest.raises(PermanentError):
        await retry(fake_time).run(attempts, attempts.failures.append)
    assert len(attempts.at) == 1


async def test_retry_after_is_waited_for(fake_time: Any) -> None:
    attempts = Attempts(fake_time, RetryableError("busy", retry_after=30))
    await retry(fake_time).run(attempts, attempts.failures.append)
    assert fake_time.slept == [30]


async def test_retry_after_beyond_the_time_ends_it_but_holds_for_the_next(fake_time: Any) -> None:
    first = Attempts(fake_time, RetryableError("busy", retry_after=100))
    second = Attempts(fake_time)
    piece = retry(fake_time, retry_for=60)
    with pytest.raises(RetryableError):
        await piece.run(first, first.failures.append)
    await piece.run(second, second.failures.append)
    assert second.at[0] - first.at[0] == 100


async def test_retry_after_has_a_bound(fake_time: Any) -> None:
    attempts = Attempts(fake_time, RetryableError("busy", retry_after=1e12))
    await retry(fake_time, retry_for=1e6).run(attempts, attempts.failures.append)
    assert fake_time.slept == [MAX_RETRY_AFTER]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        ("Sun, 06 Nov 1994 08:48:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_retry_after_forms(value: str, seconds: float | None) -> None:
    now = 784111740.0  # Sun, 06 Nov 1994 08:49:00 GMT
    assert parse_retry_after(value, now) == seconds
