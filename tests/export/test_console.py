"""A line a span, whatever is in it."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.export.console import ConsoleSpanExporter, format_span
from meshproxy.export.exporter import PermanentError
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Event, Kind, Link, Span, SpanShape

MakeSpan = Callable[..., Span]


def test_line_says_everything(make_span: MakeSpan) -> None:
    link = Link(SpanContext(b"\x02" * 16, b"\x03" * 8), [("why", "edge")])
    span = make_span(
        parent_id=b"\x04" * 8,
        status=2,
        status_message="it broke",
        attributes=(("url.path", "/a"), ("n", -1), ("ok", True), ("all", ["x", "y z"])),
        events=[Event("exception", 1_700_000_000_000_500_001, [("exception.type", "E")])],
        links=[link],
    )
    assert format_span(span) == (
        "2023-11-14T22:13:20.000Z SERVER GET /users/{id} 1.500ms "
        "trace=00000000000000000000000000000001 span=0000000000000001 parent=0404040404040404 "
        'status=ERROR message="it broke" http.request.method=GET url.path=/a n=-1 ok=true '
        'all=[x,"y z"] event=exception(+0.500ms exception.type=E) '
        "link=02020202020202020202020202020202-0303030303030303(why=edge)"
    )


@given(st.text(alphabet=st.characters(), max_size=30))
def test_no_value_breaks_the_line_or_reaches_the_terminal(text: str) -> None:
    shape = SpanShape(text, Kind.CLIENT, [("k", text)])
    line = format_span(Span(shape, SpanContext(bytes(16), bytes(8)), b"", 0, 1))
    assert line.isprintable()


async def test_lines_are_written_to_the_stream(make_span: MakeSpan) -> None:
    stream = io.StringIO()
    exporter = ConsoleSpanExporter(stream)
    await exporter.start()
    assert (await exporter.send([make_span(n) for n in range(1, 201)])).taken == 200
    await exporter.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 200
    assert "span=0000000000000001" in lines[0]


async def test_stream_that_cannot_take_a_character_gets_an_escape(make_span: MakeSpan) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    exporter = ConsoleSpanExporter(stream)
    await exporter.start()
    await exporter.send([make_span(attributes=(("k", "é"),))])
    await exporter.close()
    assert b"k=\\xe9" in raw.getvalue()


async def test_closed_stream_is_a_permanent_error(make_span: MakeSpan) -> None:
    stream = io.StringIO()
    stream.close()
    exporter = ConsoleSpanExporter(stream)
    await exporter.start()
    with pytest.raises(PermanentError) as caught:
        await exporter.send([make_span()])
    assert caught.value.reason == "write_failed"
    await exporter.close()
