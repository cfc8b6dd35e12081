"""``meshproxy demo``: the same requests without and with meshproxy."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from meshproxy.demo import report
from meshproxy.demo.mesh import Access, Mesh
from meshproxy.demo.paint import Palette
from meshproxy.demo.processes import DemoError
from meshproxy.demo.receiver import Receiver
from meshproxy.demo.traffic import BURST, SEQUENTIAL, send_all, tree_problems, wrong_edges
from meshproxy.demo.tree import SpanRecord, build, index

SPANS = sum(request.spans for request in (*SEQUENTIAL, *BURST))
RECORDS_TIMEOUT = 5.0
SPANS_TIMEOUT = 10.0
QUIET = 0.5
"""Seconds without a new span after which none is expected: over twice the export interval."""


def run(keep: bool) -> int:
    """Run the demo and return the exit code.

    0 if every sequential request became one tree and no edge is wrong, 1 if not (standard error
    says what is missing), 128 + the signal's number if interrupted. With ``keep``, everything stays
    up after the output until a signal comes.
    """
    try:
        import confluent_kafka  # noqa: F401
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
    except ImportError as error:
        print(
            f"meshproxy demo needs the dev extra (pip install meshproxy[dev]): {error}",
            file=sys.stderr,
        )
        return 1
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # lines and arrows must not fail where the encoding lacks them
        reconfigure(errors="replace", line_buffering=True)
    try:
        return asyncio.run(_until_signal(keep))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DemoError as error:
        print(f"meshproxy demo: {error}", file=sys.stderr)
        return 1


async def _until_signal(keep: bool) -> int:
    """Run `_demo`; the first signal cancels it, later ones do not disturb the cleaning up."""
    demo = Demo(Palette.for_stream(sys.stdout, os.environ))
    task = asyncio.ensure_future(demo.run(keep))
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        if demo.result is not None:
            return demo.result
        return 128 + received[0] if received else 1


class Demo:
    """One run. ``result`` is the exit code as soon as it is known."""

    def __init__(self, palette: Palette) -> None:
        self.result: int | None = None
        self._palette = palette

    async def run(self, keep: bool) -> int:
        """Both halves, the output, and with ``keep`` no end."""
        _show(report.opening(self._palette))
        with tempfile.TemporaryDirectory(prefix="meshproxy-demo-") as folder:
            before = await self._without(Path(folder))
            _show(report.fragments(before, self._palette))
            async with Receiver() as receiver, Mesh(Path(folder), receiver.endpoint) as mesh:
                self.result = await self._with(mesh, receiver, before)
                if keep:
                    _show(report.staying(mesh))
                    await mesh.unless_dead(self._follow(receiver))
        return self.result

    async def _without(self, folder: Path) -> list[Access]:
        async with Mesh(folder) as mesh:
            await _send(mesh)
            return list(mesh.access.items)

    async def _with(self, mesh: Mesh, receiver: Receiver, before: list[Access]) -> int:
        await _send(mesh)
        await receiver.spans.reach(SPANS, SPANS_TIMEOUT, lambda span: not span.is_poll)
        await receiver.spans.settle(QUIET)
        spans = list(receiver.spans.items)
        wrong = wrong_edges(spans)
        _show(report.trees(spans, self._palette))
        after = list(mesh.access.items)
        _show(report.summary(before, after, spans, wrong, await mesh.gaps(), self._palette))
        problems = [*tree_problems(SEQUENTIAL, spans), *wrong]
        if receiver.refused:
            problems.append(f"{receiver.refused} exports were no OTLP")
        for problem in problems:
            print(f"meshproxy demo: {problem}", file=sys.stderr)
        return 1 if problems else 0

    async def _follow(self, receiver: Receiver) -> None:
        """Print the trees of whatever else is sent, for ever."""
        shown = len(receiver.spans.items)
        while True:
            if len(receiver.spans.items) == shown:
                await receiver.spans.change()
            await receiver.spans.settle(QUIET)
            spans: list[SpanRecord] = receiver.spans.items
            roots = build(spans[shown:])
            shown = len(spans)
            _show(report.forest(roots, index(spans), self._palette))


async def _send(mesh: Mesh) -> None:
    """The whole traffic, and every service's access record of it."""

    async def received(hops: int) -> None:
        if not await mesh.access.reach(hops, RECORDS_TIMEOUT):
            raise DemoError(f"services recorded {len(mesh.access.items)} hops, not {hops}")

    await mesh.unless_dead(send_all(mesh.entry, received))


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
