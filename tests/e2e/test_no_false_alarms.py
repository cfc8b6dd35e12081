"""Services that are right raise no alarm, alone or in a crowd, and their traces are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from tests.e2e.bed import CROWD, Bed, Headers, Lay, Service, caller, trace_of
from tests.e2e.services import B3, PROPAGATED, Probed, Sdk, silent, verbatim

SETTLED = 20
"""Times that something is done while nothing is in flight, so that it is known to need nothing."""


def b3(number: int) -> dict[str, str]:
    return {"b3": f"{trace_of(number)}-00f067aa0ba902b7-1"}


def unsampled(number: int) -> dict[str, str]:
    return caller(number, "00")


async def drops(bed: Bed, number: int, came: Headers) -> None:
    await bed.call("pricing", number)


DROPS = {("pricing", "dropped")}
BOTH = {"propagation": {"inject": ["tracecontext", "b3"]}}


class TestTheyPassTheirContextOn:
    """Requests one after another, and many of them in flight at once."""

    @pytest.mark.parametrize(
        ("service", "headers", "config"),
        [
            pytest.param(Sdk(), caller, {}, id="sdk"),
            pytest.param(Sdk(parallel=True, calls=["pricing", "stock"] * 3), caller, {},
                         id="sdk, calls in parallel"),
            pytest.param(Sdk(), unsampled, {}, id="sdk, not sampled"),
            pytest.param(Sdk(sampler=ALWAYS_ON), unsampled, {}, id="sdk that samples more"),
            pytest.param(Sdk(B3), b3, {}, id="sdk, b3 came in"),
            pytest.param(Sdk(B3), caller, BOTH, id="sdk, b3 is written"),
            pytest.param(verbatim, caller, {}, id="verbatim"),
            pytest.param(verbatim, unsampled, {}, id="verbatim, not sampled"),
        ],
    )  # fmt: skip
    async def test_whoever_called(
        self, lay: Lay, service: Service, headers: Callable[[int], Headers], config: dict[str, Any]
    ) -> None:
        bed = await lay(service, **config)
        for number in (11, 12, 13):
            await bed.ask(number, headers(number))
        for first in (21, 31, 41):
            await bed.crowd(headers, first=first)
        assert await bed.gaps() == []
        for destination in ("pricing", "stock"):
            bed.assert_in_their_traces(destination)
            assert len({call.number for call in bed.at(destination)}) == 3 + 3 * CROWD

    @pytest.mark.parametrize("service", [Sdk(), verbatim], ids=["sdk", "verbatim"])
    @pytest.mark.parametrize("ratio", [0, 1])
    async def test_where_the_trace_begins_here(
        self, lay: Lay, service: Service, ratio: int
    ) -> None:
        """Callers send nothing: the sidecar decides, and puts its own threshold in tracestate."""
        bed = await lay(service, sampling={"default": ratio})
        await bed.ask(1, {})
        await bed.crowd(lambda _: {})
        assert await bed.gaps() == []
        flags = {call.headers["traceparent"][-2:] for call in bed.arrivals}
        assert {int(each, 16) & 1 for each in flags} == {ratio}

    async def test_requests_that_share_a_trace(self, lay: Lay) -> None:
        bed = await lay(Sdk())
        await bed.crowd(lambda _: caller(7))
        assert await bed.gaps() == []
        assert {call.trace_id for call in bed.arrivals} == {trace_of(7)}

    async def test_some_requests_make_no_calls(self, lay: Lay) -> None:
        bed = await lay(silent)
        await bed.crowd()
        assert await bed.gaps() == []


class TestWorkThatOutlivesItsRequest:
    """What goes on after the answer does so within the request's trace."""

    @pytest.mark.parametrize("others", [0, 1, CROWD])
    async def test_an_sdk_keeps_its_context(self, lay: Lay, others: int) -> None:
        answered = asyncio.Event()
        going_on: list[asyncio.Task[None]] = []

        class GoesOn(Sdk):
            async def call(self, bed: Bed, destination: str, number: int) -> None:
                await super().call(bed, destination, number)
                if number == 1:
                    going_on.append(asyncio.create_task(self.later(bed, number)))

            async def later(self, bed: Bed, number: int) -> None:
                await answered.wait()
                await super().call(bed, "vendor", number)

        bed = await lay(GoesOn())
        await bed.ask(1)
        async with bed.in_flight(others):
            answered.set()
            await asyncio.gather(*going_on)
        assert await bed.gaps() == []
        bed.assert_in_their_traces("vendor")

    async def test_a_verbatim_copy_that_mostly_goes_out_alone(self, lay: Lay) -> None:
        """The copy itself does not tell whether it is old or its work goes on."""
        kept: dict[int, dict[str, str]] = {}

        async def keeps(bed: Bed, number: int, came: Headers) -> None:
            kept[number] = {name: came[name] for name in PROPAGATED}
            await verbatim(bed, number, came)

        bed = await lay(keeps)
        for number in range(1, SETTLED):
            await bed.ask(number)
            await bed.call("vendor", number, kept[number])
        async with bed.in_flight(1):
            await bed.call("vendor", 1, kept[1])
        assert await bed.gaps() == []
        bed.assert_in_their_traces("vendor")


class TestBehindAMessageQueue:
    """A message brings a context of its own; HTTP requests may be in flight or not."""

    @pytest.fixture
    async def bed(self, lay: Lay) -> Bed:
        return await lay(Sdk())

    async def consume(self, bed: Bed, *numbers: int) -> None:
        """As many messages at once, each with a trace that this sidecar never sees otherwise."""
        consumer = Sdk()
        await asyncio.gather(
            *(
                consumer.within(bed, number, caller(number), SpanKind.CONSUMER, ["vendor"])
                for number in numbers
            )
        )

    async def test_without_any_request(self, bed: Bed) -> None:
        await self.consume(bed, 1)
        await self.consume(bed, *range(2, 10))
        assert await bed.gaps() == []
        bed.assert_in_their_traces("vendor")

    @pytest.mark.parametrize("requests", [1, CROWD])
    async def test_also_while_requests_are_in_flight(self, bed: Bed, requests: int) -> None:
        for number in range(1, SETTLED):
            await self.consume(bed, number)
        async with bed.in_flight(requests):
            await self.consume(bed, 50)
            await self.consume(bed, 51, 52, 53)
        await self.consume(bed, 60)
        assert await bed.gaps() == []
        bed.assert_in_their_traces("vendor")
        bed.assert_in_their_traces("pricing")

    @pytest.mark.parametrize("requests", [1, CROWD])
    async def test_first_while_a_request_is_in_flight(self, bed: Bed, requests: int) -> None:
        """It was never seen alone; but the requests' route is known to pass its context on."""
        async with bed.in_flight(1, first=1):
            pass
        async with bed.in_flight(requests):
            await self.consume(bed, 50, 51)
        assert await bed.gaps() == []
        bed.assert_in_their_traces("vendor")

    async def test_beside_requests_that_pass_nothing_on(self, lay: Lay) -> None:
        """The requests' calls are reported, the consumer's are not."""
        bed = await lay(drops)
        for number in range(1, SETTLED):
            await self.consume(bed, number)
            await bed.ask(number)
        async with bed.in_flight(1):
            await self.consume(bed, 50)
        assert {(row["destination"], row["kind"]) for row in await bed.gaps()} == DROPS
        bed.assert_in_their_traces("vendor")

    async def test_a_consumer_that_links_instead_of_continuing(self, bed: Bed) -> None:
        """It starts a trace for each message, as conventions for messages have it for batches."""
        for number in range(1, SETTLED):
            await Sdk().within(bed, number, {}, SpanKind.CONSUMER, ["vendor"])
        async with bed.in_flight(1):
            await Sdk().within(bed, 50, {}, SpanKind.CONSUMER, ["vendor"])
        assert await bed.gaps() == []
        known = {trace_of(call.number) for call in bed.at("pricing")}
        assert known.isdisjoint(call.trace_id for call in bed.at("vendor"))


class TestBackgroundJobs:
    """Calls without context that no request causes."""

    @pytest.fixture
    async def bed(self, lay: Lay) -> Bed:
        return await lay(Sdk())

    async def test_alone(self, bed: Bed) -> None:
        for number in range(3):
            await bed.call("vendor", number)
        assert await bed.gaps() == []

    @pytest.mark.parametrize("requests", [1, CROWD])
    async def test_also_while_requests_are_in_flight(self, bed: Bed, requests: int) -> None:
        for number in range(SETTLED):
            await bed.call("vendor", number)
        async with bed.in_flight(requests):
            await bed.call("vendor", 50)
        await bed.call("vendor", 51)
        assert await bed.gaps() == []
        found = {call.trace_id for call in bed.at("vendor")}
        assert len(found) == SETTLED + 2, "each is a trace of its own"
        assert found.isdisjoint(trace_of(call.number) for call in bed.at("pricing"))

    async def test_first_while_requests_are_in_flight(self, bed: Bed) -> None:
        """It was never seen alone; but the requests' route is known to pass its context on."""
        async with bed.in_flight(1, first=1):
            pass
        async with bed.in_flight(CROWD):
            await bed.call("vendor", 50)
        assert await bed.gaps() == []

    async def test_a_job_of_a_service_that_passes_nothing_on_is_not_its_requests(
        self, lay: Lay
    ) -> None:
        """The service's own calls are reported, the job's are not."""

        bed = await lay(drops)
        for number in range(SETTLED):
            await bed.call("vendor", number)
            await bed.ask(number)
        async with bed.in_flight(1):
            await bed.call("vendor", 50)
        found = await bed.gaps()
        assert {(row["destination"], row["kind"]) for row in found} == DROPS
        assert sum(row["count"] for row in found) == SETTLED + 1


PROBE = {"User-Agent": "kube-probe/1.30"}
UNTRACED = {"sampling": {"rules": [{"match": {"path": "/healthz/*"}, "drop": True}]}}


class TestHealthChecks:
    async def test_of_this_service(self, lay: Lay) -> None:
        bed = await lay(silent)
        for _ in range(3):
            await bed.ask(0, PROBE, route="healthz")
        assert await bed.gaps() == []

    @pytest.mark.parametrize("config", [{}, UNTRACED], ids=["by agent", "by rule"])
    async def test_of_this_service_which_then_looks_around(
        self, lay: Lay, config: dict[str, Any]
    ) -> None:
        """Nobody wants a trace of a probe."""
        bed = await lay(Probed(Sdk()), **config)
        for _ in range(3):
            await bed.ask(0, PROBE, route="healthz")
        async with bed.in_flight(1, first=1):
            pass
        async with bed.in_flight(1):
            await bed.ask(0, PROBE, route="healthz")
        assert await bed.gaps() == []
        bed.assert_in_their_traces("pricing")

    @pytest.mark.parametrize("requests", [1, CROWD])
    async def test_of_others_by_a_load_balancing_client(self, lay: Lay, requests: int) -> None:
        """It asks the very destination that requests are sent to."""
        bed = await lay(Sdk())
        for number in range(SETTLED):
            await bed.call("pricing", number, path="healthz")
        await bed.ask(101)
        async with bed.in_flight(requests):
            await bed.call("pricing", 50, path="healthz")
        assert await bed.gaps() == []
