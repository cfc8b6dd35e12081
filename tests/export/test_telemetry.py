"""All exporters together: fan-out, the last spans, counters, and changing over."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from meshproxy.config.model import ConsoleExporter, FileExporter, OtlpExporter, Queue
from meshproxy.export import ExporterSettingsError, Telemetry, build
from meshproxy.trace.span import Span

MakeSpan = Callable[..., Span]
RESOURCE = (("service.name", "cart"),)
# Batches leave only when they are flushed.
SLOW = Queue(size=1000, batch=1000, interval=3600)


def by_name(telemetry: Telemetry) -> dict[str, Any]:
    return {stats.name: stats for stats in telemetry.stats()}


async def test_every_exporter_gets_every_span(
    serve: Any, make_span: MakeSpan, tmp_path: Path
) -> None:
    backend = await serve()
    path = tmp_path / "spans.jsonl"
    stream = io.StringIO()
    endpoint = backend.url.replace("http://", "http://user:secret@")
    settings = [
        OtlpExporter(endpoint=endpoint),
        FileExporter(path=str(path)),
        ConsoleExporter(),
    ]
    telemetry = Telemetry(settings, RESOURCE, build=partial(build, console=stream))
    await telemetry.start()
    for number in range(1, 4):
        telemetry.offer(make_span(number))
    await telemetry.close(10)
    assert backend.span_numbers() == [1, 2, 3]
    assert len(json.loads(path.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 3
    assert len(stream.getvalue().splitlines()) == 3
    stats = by_name(telemetry)
    assert set(stats) == {f"otlp {backend.url}/v1/traces", f"file {path}", "console"}
    assert {(one.sent, one.queued) for one in stats.values()} == {(3, 0)}


def test_last_spans_are_kept_and_bounded(make_span: MakeSpan) -> None:
    telemetry = Telemetry([], RESOURCE, recent=3)
    spans = [make_span(number) for number in range(1, 6)]
    for span in spans:
        telemetry.offer(span)
    assert telemetry.recent() == spans[-3:]
    assert telemetry.stats() == []


async def test_unchanged_exporter_keeps_its_queue_and_a_removed_one_sends_what_it_has(
    serve: Any, make_span: MakeSpan
) -> None:
    kept, removed, added = [await serve() for _ in range(3)]
    old = [OtlpExporter(endpoint=one.url, queue=SLOW) for one in (kept, removed)]
    # Equal settings, not the same objects, as after reading the file again.
    new = [OtlpExporter(endpoint=one.url, queue=SLOW) for one in (added, kept)]
    telemetry = Telemetry(old, RESOURCE)
    await telemetry.start()
    telemetry.offer(make_span(1))
    await telemetry.reconfigure(new, RESOURCE)
    await asyncio.wait_for(removed.asked.wait(), 5)
    telemetry.offer(make_span(2))
    assert kept.requests == []
    await telemetry.close(10)
    assert kept.span_numbers() == [1, 2]
    assert removed.span_numbers() == [1]
    assert added.span_numbers() == [2]
    assert sum(stats.sent for stats in telemetry.stats()) == 4


async def test_changed_resource_makes_new_exporters_and_counters_go_on(
    serve: Any, make_span: MakeSpan
) -> None:
    backend = await serve()
    settings = [OtlpExporter(endpoint=backend.url, queue=SLOW)]
    telemetry = Telemetry(settings, RESOURCE)
    await telemetry.start()
    telemetry.offer(make_span(1))
    await telemetry.reconfigure(settings, (("service.name", "renamed"),))
    telemetry.offer(make_span(2))
    await telemetry.close(10)
    names = {
        request.resource_spans[0].resource.attributes[0].value.string_value: number
        for request, number in zip(backend.decoded(), backend.span_numbers(), strict=True)
    }
    assert names == {"cart": 1, "renamed": 2}
    (stats,) = telemetry.stats()
    assert stats.sent == 2


async def test_settings_that_cannot_work_change_nothing(serve: Any, make_span: MakeSpan) -> None:
    backend = await serve()
    telemetry = Telemetry([OtlpExporter(endpoint=backend.url, queue=SLOW)], RESOURCE)
    await telemetry.start()
    with pytest.raises(ExporterSettingsError):
        await telemetry.reconfigure([OtlpExporter(endpoint="nonsense")], RESOURCE)
    telemetry.offer(make_span(1))
    await telemetry.close(10)
    assert backend.span_numbers() == [1]


async def test_close_is_bounded_with_dead_backends_in_use_and_removed(
    serve: Any, reply: Any, make_span: MakeSpan
) -> None:
    dead = [await serve(reply(hang=True)) for _ in range(2)]
    telemetry = Telemetry([OtlpExporter(endpoint=dead[0].url)], RESOURCE)
    await telemetry.start()
    telemetry.offer(make_span(1))
    await telemetry.reconfigure([OtlpExporter(endpoint=dead[1].url)], RESOURCE)
    telemetry.offer(make_span(2))
    await asyncio.wait_for(telemetry.close(0.1), 5)
    assert [stats.dropped for stats in telemetry.stats()] == [{"shutdown": 1}] * 2
    assert [stats.queued for stats in telemetry.stats()] == [0, 0]
