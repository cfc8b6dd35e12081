"""OTLP JSON lines in a file that may be rotated, forbidden, or full."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from meshproxy.export.exporter import PermanentError
from meshproxy.export.file import AppendedFile, FileSpanExporter
from meshproxy.trace.span import Span

MakeSpan = Callable[..., Span]
Open = Callable[[Path], Any]


@pytest.fixture
async def exporter() -> AsyncIterator[Open]:
    opened: list[FileSpanExporter] = []

    async def start(path: Path) -> FileSpanExporter:
        made = FileSpanExporter(str(path), (("service.name", "cart"),))
        opened.append(made)
        await made.start()
        return made

    yield start
    for one in opened:
        await one.close()


def ids(path: Path) -> list[list[str]]:
    """Span ids by line."""
    return [
        [span["spanId"][-2:] for span in line["resourceSpans"][0]["scopeSpans"][0]["spans"]]
        for line in map(json.loads, path.read_text().splitlines())
    ]


async def test_one_request_a_line_appended(
    exporter: Open, make_span: MakeSpan, tmp_path: Path
) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_text('{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"before-00"}]}]}]}\n')
    sender = await exporter(path)
    await sender.send([make_span(1), make_span(2)])
    await sender.send([make_span(n) for n in range(3, 100)])
    assert ids(path) == [["00"], ["01", "02"], [f"{n:02x}" for n in range(3, 100)]]


@pytest.mark.parametrize("rotate", [lambda p: p.rename(f"{p}.1"), Path.unlink])
async def test_rotated_file_is_made_anew(
    rotate: Callable[[Path], None], exporter: Open, make_span: MakeSpan, tmp_path: Path
) -> None:
    path = tmp_path / "spans.jsonl"
    sender = await exporter(path)
    await sender.send([make_span(1)])
    rotate(path)
    await sender.send([make_span(2)])
    assert ids(path) == [["02"]]


async def test_path_that_cannot_be_written_is_a_permanent_error_until_it_can(
    exporter: Open, make_span: MakeSpan, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "spans.jsonl"
    sender = await exporter(path)
    with pytest.raises(PermanentError, match="No such file") as caught:
        await sender.send([make_span(1)])
    assert caught.value.reason == "write_failed"
    path.parent.mkdir()
    await sender.send([make_span(2)])
    assert ids(path) == [["02"]]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
async def test_full_disk_is_a_permanent_error(exporter: Open, make_span: MakeSpan) -> None:
    with pytest.raises(PermanentError, match="No space left"):
        await (await exporter(Path("/dev/full"))).send([make_span(1)])


async def test_fifo_without_a_reader_is_an_error_not_a_wait(
    exporter: Open, make_span: MakeSpan, tmp_path: Path
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(PermanentError):
        await (await exporter(path)).send([make_span(1)])


def test_line_that_broke_off_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spans.jsonl"
    file = AppendedFile(str(path))
    write = os.write
    room = 4

    def write_until_full(descriptor: int, data: Any) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data)[:room])
        room -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_until_full)
        with pytest.raises(OSError, match="No space left"):
            file.append(b"first line")
    file.append(b"second line")
    file.append(b"third line")
    file.close()
    assert path.read_text().splitlines() == ["firs", "second line", "third line"]
