"""What fails while a batch is worked on harms no message: it goes out as the client made it."""

from __future__ import annotations

import pytest

from filters.kafka import outgoing
from tests.filters.kafka.batches import GZIP, HEAVY, batch
from tests.filters.kafka.bench import Bench
from tests.filters.kafka.frames import produce, produced


def fails(*_: object, **__: object) -> bytes:
    raise MemoryError("no more")


@pytest.mark.parametrize("what", ["payload", "inject", "rebuilt"])
@pytest.mark.parametrize("made", [batch(2, GZIP), HEAVY], ids=["on the loop", "in a thread"])
def test_a_batch_goes_out_unchanged(
    what: str, made: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not str(outgoing.__file__).endswith(".py"):
        pytest.skip("compiled, it cannot be made to fail")
    monkeypatch.setattr(outgoing, what, fails)
    bench = Bench()
    bench.fails = True
    connection = bench.connect()
    request = produce(made)
    assert connection.say(request) == request
    connection.hear(produced((0, 42)))
    assert len(bench.errors) == 1
