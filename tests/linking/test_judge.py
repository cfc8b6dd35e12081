"""The ladder of evidence, rung by rung: what counts, what is stronger, when none is enough."""

from __future__ import annotations

import pytest

from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import Cause
from meshproxy.linking.judge import MAX_CANDIDATES, MOST_WEIGHED
from meshproxy.linking.sockets import Socket
from tests.linking.bench import Service, context, uuid
from tests.linking.system import System

INFERRED = ("only_in_flight", "call_graph", "timing")


@pytest.fixture
def service() -> Service:
    return Service()


def shares(service: Service, destination: str = "pricing", **more: bytes) -> dict[Cause, float]:
    """How likely each request makes this call, which is not linked."""
    decision = service.call(destination, words=more.get("words", b""))
    assert decision.cause is None
    return {each.cause: each.confidence for each in decision.candidates}


# Request ids


def test_an_id_of_one_request_points_at_it(service: Service) -> None:
    one, _ = service.request(ids=[b"one"]), service.request(ids=[b"two"])
    decision = service.call(ids=[b"one"])
    assert (decision.cause, decision.evidence, decision.confidence) == (one, "request_id", 0.999)


def test_an_id_under_any_name_points_at_the_request(service: Service) -> None:
    one, _ = service.request(ids=[b"one", b"order"]), service.request(ids=[b"two"])
    assert service.call(ids=[b"unknown", b"order"]).cause is one


def test_an_id_counts_for_more_than_being_alone(service: Service) -> None:
    service.request(ids=[b"one"])
    assert service.call(ids=[b"one"]).evidence == "request_id"
    assert service.call(ids=[b"minted by the service"]).evidence == "only_in_flight"


def test_an_id_of_several_requests_narrows_the_choice(service: Service) -> None:
    one, two, _ = (service.request(ids=[value]) for value in (b"x", b"x", b"y"))
    decision = service.call(ids=[b"x"])
    assert decision.cause is None
    assert {each.cause for each in decision.candidates} == {one, two}
    service.end(one)
    assert service.call(ids=[b"x"]).cause is two


def test_ids_of_several_requests_narrow_the_choice(service: Service) -> None:
    one, two, _ = (service.request(ids=[value]) for value in (b"one", b"two", b"three"))
    decision = service.call(ids=[b"one", b"two"])
    assert {each.cause for each in decision.candidates} == {one, two}
    assert not decision.contradiction


def test_an_unknown_id_says_nothing(service: Service) -> None:
    service.requests(2)
    assert len(service.call(ids=[b"unknown"]).candidates) == 2


# Processes and threads


def test_the_process_that_has_one_request_made_the_call_for_it(system: System) -> None:
    service = Service(lookup=system)
    causes = [service.request(socket=system.socket(process)) for process in (1, 2, 3)]
    decision = service.call(socket=system.socket(2))
    assert (decision.cause, decision.evidence) == (causes[1], "process")
    assert decision.confidence == pytest.approx(0.999, abs=0.0001)


def test_the_process_narrows_the_choice_for_what_is_weaker(system: System) -> None:
    service = Service(lookup=system)
    service.practise(150, "pricing", route="GET /prices")
    service.practise(150, "stock", route="GET /stocks")
    prices, stocks = (
        service.request(route, socket=system.socket(1)) for route in ("GET /prices", "GET /stocks")
    )
    other = service.request("GET /prices", socket=system.socket(2))
    service.wait(1.1)
    unsure = service.call("pricing", socket=system.socket(3))
    assert {each.cause for each in unsure.candidates[:2]} == {prices, other}
    decision = service.call("stock", socket=system.socket(1))
    assert (decision.cause, decision.evidence) == (stocks, "call_graph")


def test_two_kinds_that_narrow_may_leave_one_request(system: System) -> None:
    service = Service(lookup=system)
    service.request(ids=[b"x"], socket=system.socket(1))
    both = service.request(ids=[b"x"], socket=system.socket(2))
    service.request(ids=[b"y"], socket=system.socket(2))
    decision = service.call(ids=[b"x"], socket=system.socket(2))
    assert (decision.cause, decision.evidence) == (both, "process")


def test_kinds_that_exclude_each_other_leave_all_requests(system: System) -> None:
    service = Service(lookup=system)
    for ids, process in (([b"x"], 1), ([b"x"], 1), ([], 2), ([], 2)):
        service.request(ids=ids, socket=system.socket(process))
    decision = service.call(ids=[b"x"], socket=system.socket(2))
    assert decision.cause is None
    assert len(decision.candidates) == 4


@pytest.mark.parametrize("threshold", [0.99, 0.995])
def test_a_process_without_a_request_makes_calls_for_none(system: System, threshold: float) -> None:
    """Even if requests of other processes are about to make such a call."""
    service = Service(threshold, lookup=system)
    service.practise(200, "pricing", route="GET /prices")
    service.practise(200, "stock", route="GET /stocks")
    mine = service.request("GET /prices", socket=system.socket(1))
    for route in ("GET /prices", "GET /stocks"):
        service.request(route, socket=system.socket(2))
    call = system.socket(1)
    service.wait(1.1)
    assert service.call("pricing", socket=call).cause is mine
    service.end(mine)
    decision = service.call("pricing", socket=call)
    assert (decision.cause, decision.propagation, decision.gap) == (None, "root", None)


def test_the_thread_that_read_the_request_made_the_call(system: System) -> None:
    service = Service(lookup=system)
    sockets: list[Socket] = [system.socket(1) for _ in range(3)]
    causes = [service.request(socket=each) for each in sockets]
    assert service.call(socket=system.socket(1)).cause is None, "threads were not watched before"
    service.end(*causes)
    for thread, each in enumerate(sockets, 11):
        system.wait(1, thread, each)
        service.owners.sending(each, 0, fresh=False)
    causes = [service.request(socket=each) for each in sockets]
    call = system.socket(1)
    system.wait(1, 12, call)
    decision = service.call(socket=call)
    assert (decision.cause, decision.evidence) == (causes[1], "thread")
    assert decision.confidence == pytest.approx(0.995, abs=0.0001)


# Content


@pytest.fixture
def reading(service: Service) -> Service:
    """Content is looked at already."""
    service.linker.content.need(service.now_ns)
    return service


def test_a_rare_word_of_one_request_points_at_it(reading: Service) -> None:
    one, _ = reading.request(words=uuid(1)), reading.request(words=uuid(2))
    decision = reading.call(words=uuid(1))
    assert (decision.cause, decision.evidence) == (one, "content")
    assert 0.99 <= decision.confidence < 0.999


def test_a_rare_word_in_an_answer_points_at_who_got_it(reading: Service) -> None:
    one, _ = reading.request(ids=[b"one"]), reading.request(ids=[b"two"])
    reading.answer(reading.call("accounts", ids=[b"one"]), words=uuid(7))
    assert reading.call("orders", words=uuid(7)).cause is one


def test_words_that_several_requests_have_are_not_enough_but_show(reading: Service) -> None:
    one, two = reading.request(words=uuid(1)), reading.request(words=uuid(1))
    three = reading.request(words=uuid(2))
    found = shares(reading, words=uuid(1))
    assert found[one] == found[two] > 0.4
    assert 0 < found[three] < 0.1


def test_words_that_are_not_certain_help_what_is_not_certain_either(reading: Service) -> None:
    """Neither narrowing to two requests nor the call graph alone would decide."""
    for _ in range(100):
        reading.practise(1, "pricing", route="GET /prices")
        reading.practise(1, "stock", route="GET /stocks")
        reading.linker.content.need(reading.now_ns)
    first = reading.request("GET /prices", words=uuid(1))
    reading.request("GET /stocks", words=uuid(1)), reading.request("GET /prices", words=uuid(2))
    reading.wait(1.1)
    decision = reading.call("pricing", words=uuid(1))
    best = decision.cause or decision.candidates[0].cause
    assert best is first
    confidence = decision.confidence or decision.candidates[0].confidence
    assert 0.9 < confidence < 0.999


# What is concluded


def test_the_only_request_in_flight_is_the_cause(service: Service) -> None:
    cause = service.request()
    decision = service.call()
    assert (decision.cause, decision.evidence) == (cause, "only_in_flight")


def test_being_alone_says_less_the_more_calls_come_without_any_request(service: Service) -> None:
    """1 - P(background), told by the made-up destination that no request was seen to call."""
    found = []
    for count in (0, 1, 10, 100, 1000):
        service = Service(threshold=1.0)
        cause = service.request("GET /slow")
        service.call("elsewhere", carrying=context(1, 5))
        service.end(cause)
        for _ in range(count):
            service.wait(10)
            service.call("broker")
        service.request("GET /slow")
        service.wait(500)
        decision = service.call("broker")
        found.append(decision.candidates[0].confidence if decision.candidates else 0.0)
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.99
    assert found[-1] < 0.01


def test_of_two_requests_the_one_that_has_not_made_the_call_yet_makes_it(service: Service) -> None:
    service.practise(200, "pricing", "stock")
    one = service.request()
    service.wait(1.1)
    called = service.call("pricing")
    assert called.cause is one
    service.wait(1)
    service.answer(called)
    two = service.request()
    service.wait(1.1)
    first, second = service.call("pricing"), service.call("stock")
    assert (first.cause, first.evidence) == (two, "call_graph")
    assert (second.cause, second.evidence) == (one, "call_graph")


def test_of_two_requests_the_one_whose_time_it_is_makes_the_call(service: Service) -> None:
    service.practise(200, "pricing")
    service.request()
    service.wait(60)
    now = service.request()
    service.wait(1.1)
    decision = service.call("pricing")
    assert (decision.cause, decision.evidence) == (now, "timing")


def test_of_two_requests_of_which_nothing_is_known_none_is_chosen(service: Service) -> None:
    service.requests(2)
    service.wait(1)
    found = list(shares(service).values())
    assert found == pytest.approx([0.5, 0.5], abs=0.01)


def test_of_two_requests_at_the_same_point_none_is_chosen(service: Service) -> None:
    service.practise(200, "pricing")
    service.requests(2)
    service.wait(1.1)
    assert list(shares(service).values()) == pytest.approx([0.5, 0.5], abs=0.01)


def test_little_experience_is_not_enough(service: Service) -> None:
    service.practise(10, "pricing", "stock")
    one = service.request()
    service.wait(1.1)
    service.answer(service.call("pricing"))
    two = service.request()
    service.wait(1.1)
    found = shares(service)
    assert 0.5 < found[two] < 0.99
    assert found[one] < 0.5


def test_retries_are_not_taken_for_the_call_of_another(service: Service) -> None:
    """Where a call is seen to come again, who has made it already may make it once more."""
    service.practise(200, "pricing")
    service.practise(200, "pricing", "pricing")
    one = service.request()
    service.wait(1.1)
    service.answer(service.call("pricing"))
    two = service.request()
    service.wait(1.1)
    found = shares(service)
    assert 0.2 < found[one] < found[two]


@pytest.mark.parametrize("destinations", [("pricing",), ("pricing", "stock")])
def test_what_is_concluded_never_counts_as_certain(
    service: Service, destinations: tuple[str, ...]
) -> None:
    service = Service(threshold=0.5)
    service.practise(1000, *destinations)
    for _ in range(50):
        service.request()
        service.wait(1.1)
        decision = service.call("pricing")
        assert decision.evidence in INFERRED
        assert 0.5 <= decision.confidence < 0.999
        service.end(*service.inflight)
        service.wait(10)


# The order of the ladder


def test_what_is_left_counts_when_stronger_evidence_is_missing(system: System) -> None:
    """All evidence speaks for the same request; the strongest is taken away each time."""
    service = Service(lookup=system)
    service.practise(150, "pricing", route="GET /prices")
    service.practise(150, "stock", route="GET /stocks")
    service.linker.content.need(service.now_ns)
    cause = service.request("GET /prices", ids=[b"a"], words=uuid(1), socket=system.socket(1))
    other = service.request("GET /stocks", ids=[b"b"], words=uuid(2), socket=system.socket(2))
    service.wait(1.1)
    call = system.socket(1)
    decisions = [
        service.call(carrying=cause.context, ids=[b"a"], words=uuid(1), socket=call),
        service.call(ids=[b"a"], words=uuid(1), socket=call),
        service.call("unheard-of", socket=call),
        service.call("unheard-of", words=uuid(1)),
    ]
    assert all(each.cause is cause for each in decisions)
    service.end(cause)
    cause = service.request("GET /prices")
    service.wait(1.1)
    decisions.append(service.call("pricing"))
    assert decisions[4].cause is cause
    service.end(cause, other)
    cause = service.request("GET /prices")
    service.wait(1.1)
    decisions.append(service.call("pricing"))
    assert decisions[5].cause is cause
    ladder = ["traceparent", "request_id", "process", "content", "call_graph", "only_in_flight"]
    assert [each.evidence for each in decisions] == ladder
    confidence = [each.confidence for each in decisions[:5]]
    assert confidence[:4] == sorted(confidence[:4], reverse=True)


@pytest.mark.parametrize(
    ("threshold", "linked"), [(0.0, True), (0.998, True), (0.9981, False), (1.0, False)]
)
def test_evidence_counts_from_the_threshold_on(threshold: float, linked: bool) -> None:
    service = Service(threshold)
    cause = service.request()
    decision = service.call()
    assert (decision.cause is cause) is linked
    assert (decision.evidence == "only_in_flight") is linked
    assert decision.propagation == ("repaired" if linked else "ambiguous")


@pytest.mark.parametrize(("threshold", "linked"), [(0.999, True), (0.9991, False)])
def test_request_ids_count_from_the_threshold_on(threshold: float, linked: bool) -> None:
    service = Service(threshold)
    one, _ = service.request(ids=[b"one"]), service.request()
    decision = service.call(ids=[b"one"])
    assert (decision.cause is one) is linked
    if not linked:
        assert decision.candidates[0].cause is one
        assert decision.candidates[0].confidence > 0.99


# Crowds


def test_a_crowd_is_not_weighed(service: Service) -> None:
    causes = service.requests(MOST_WEIGHED + 1)
    decision = service.call()
    assert decision.propagation == "ambiguous"
    assert [each.cause for each in decision.candidates] == causes[: -MAX_CANDIDATES - 1 : -1]
    assert service.call(carrying=causes[5].context).cause is causes[5]


def test_thousands_in_flight_that_never_end_leave_certain_evidence_as_it_is() -> None:
    service = Service(limit=5000)
    service.call("broker")
    causes = [service.request(ids=[b"%d" % number]) for number in range(6000)]
    assert service.inflight.unregistered == 1000
    assert service.call(ids=[b"77"]).cause is causes[77]
    assert service.call(ids=[b"5077"]).cause is None, "it is not known"
    service.abandon(causes[0])
    service.end(*causes[1:])
    assert service.inflight.idle


def test_what_was_called_in_a_crowd_is_not_known_afterwards(service: Service) -> None:
    """Both calls were made; which request made the first one could not be told then."""
    service.practise(200, "pricing")
    crowd = service.requests(MOST_WEIGHED + 1, "GET /static")
    slow = service.request()
    service.wait(57)
    early = service.request()
    service.wait(0.5)
    service.call("pricing")  # of the early one
    service.end(*crowd)
    service.wait(0.6)
    decision = service.call("pricing")  # of the slow one
    assert decision.cause is None
    assert {each.cause for each in decision.candidates} == {slow, early}


def test_what_was_called_in_right_contexts_is_not_forgotten(service: Service) -> None:
    """While all calls are right the service is not followed; then a context is lost."""
    service.practise(200, "pricing")
    service.wait(70_000)
    service.request()
    service.wait(57)
    early = service.request()
    service.wait(0.5)
    service.answer(service.call("pricing", carrying=early.context))
    service.wait(0.6)
    decision = service.call("pricing")  # of the other one
    assert decision.cause is not early


# A reload


def test_what_was_learnt_outlives_the_linker(service: Service) -> None:
    service.practise(200, "pricing", route="GET /prices")
    service.practise(200, "stock", route="GET /stocks")
    reloaded = Service(knowledge=service.knowledge)
    reloaded.now_ns = service.now_ns
    cause = reloaded.request("GET /prices")
    reloaded.request("GET /stocks")
    reloaded.wait(1.1)
    assert reloaded.call("pricing").cause is cause
    cold = Service()
    cold.request("GET /prices"), cold.request("GET /stocks")
    assert cold.call("pricing").cause is None


def test_being_alone_is_not_enough_for_what_requests_like_this_never_do(service: Service) -> None:
    """Not until it was seen twice, that is."""
    service.practise(20, "pricing")
    found = []
    for _ in range(4):
        cause = service.request("GET /orders")
        service.wait(1.1)
        decision = service.call("elsewhere")
        found.append((decision.cause is cause, decision.gap))
        service.answer(decision)
        service.end(cause)
        service.wait(10)
    assert found[0] == (False, None)
    assert found[-1] == (True, Gap.DROPPED)
