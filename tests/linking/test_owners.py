"""Evidence from processes, over an operating system that the tests make up; what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import QUEUED, UNKNOWN, NoLookup, OwnerError
from meshproxy.linking.sockets import Socket
from tests.linking.system import Clock, System, request, says

# Processes


def test_a_call_belongs_to_the_one_request_of_its_process(
    system: System, evidence: OwnerEvidence
) -> None:
    first, second = request(system.socket(1)), request(system.socket(2))
    verdict = evidence.judge(system.socket(2), [first, second])
    assert verdict is not None
    assert (verdict.evidence, verdict.confidence) == ("process", 0.999)
    assert list(verdict.causes) == [second]


def test_of_several_requests_of_its_process_none_is_chosen(
    system: System, evidence: OwnerEvidence
) -> None:
    causes = [request(system.socket(process)) for process in (1, 1, 2)]
    assert says(evidence, system.socket(1), causes) == causes[:2]


def test_nothing_is_said_where_one_process_has_them_all(
    system: System, evidence: OwnerEvidence
) -> None:
    causes = [request(system.socket(1)), request(system.socket(1))]
    assert says(evidence, system.socket(1), causes) is None


def test_a_process_that_serves_and_has_no_request_calls_for_none(
    system: System, evidence: OwnerEvidence
) -> None:
    call, other = system.socket(1), request(system.socket(2))
    assert says(evidence, call, [request(system.socket(1)), other]) is not None
    assert says(evidence, call, [other]) == []


def test_a_process_that_never_served_may_have_been_asked_by_another(
    system: System, evidence: OwnerEvidence
) -> None:
    causes = [request(system.socket(2)), request(system.socket(3))]
    assert says(evidence, system.socket(1), causes) is None
    assert evidence.stats["handed_over"] == 1


def test_a_request_whose_owner_is_unknown_may_be_anybodys(
    system: System, evidence: OwnerEvidence
) -> None:
    mine, call = request(system.socket(1)), system.socket(1)
    for unknown in (
        request(carried=False),
        request(system.socket(inode=UNKNOWN)),
        request(system.socket()),
    ):
        assert says(evidence, call, [mine, unknown]) is None


def test_what_the_service_has_not_got_yet_has_caused_nothing(
    system: System, evidence: OwnerEvidence
) -> None:
    mine, call = request(system.socket(1)), system.socket(1)
    queued, unsent = request(system.socket(inode=QUEUED)), request(None)
    assert says(evidence, call, [mine, queued, unsent]) == [mine]


def test_a_connection_that_was_queued_is_looked_up_again(
    system: System, evidence: OwnerEvidence
) -> None:
    waiting, call = system.socket(inode=QUEUED), system.socket(1)
    causes = [request(system.socket(1)), request(waiting)]
    assert says(evidence, call, causes) == causes[:1]
    system.inodes[waiting] = 99
    system.held[99] = [(1, 99)]
    assert says(evidence, call, causes) is None


def test_a_request_that_nobody_has_read_has_caused_nothing(
    system: System, evidence: OwnerEvidence
) -> None:
    read, unread, partly, endless = (system.socket(1) for _ in range(4))
    for each, size in ((read, 100), (unread, 100), (partly, 100), (endless, 0)):
        evidence.sending(each, size, fresh=True)
    system.unread = {unread: 100, partly: 50, endless: 100}
    causes = [request(each) for each in (read, unread, partly, endless)]
    expected = [causes[0], causes[2], causes[3]]
    assert says(evidence, system.socket(1), causes) == expected


def test_a_request_that_was_read_is_not_asked_about_again(
    system: System, evidence: OwnerEvidence
) -> None:
    socket, call = system.socket(1), system.socket(1)
    evidence.sending(socket, 100, fresh=True)
    system.unread = {socket: 40}
    first, other = request(socket), request(system.socket(2))
    assert says(evidence, call, [first, other]) == [first]
    system.error = OwnerError("unsupported")
    assert says(evidence, call, [first, other]) == [first]
    system.error = None
    evidence.sending(socket, 100, fresh=False)
    system.unread = {socket: 100}
    assert says(evidence, call, [request(socket), other]) == []


def test_a_shared_socket_decides_nothing(system: System, evidence: OwnerEvidence) -> None:
    other = request(system.socket(3))
    assert says(evidence, system.socket(1, 2), [request(system.socket(1)), other]) is None
    assert says(evidence, system.socket(1), [request(system.socket(1, 2)), other]) is None


def test_a_shared_request_is_none_of_a_third_process(
    system: System, evidence: OwnerEvidence
) -> None:
    mine, shared = request(system.socket(3)), request(system.socket(1, 2))
    assert says(evidence, system.socket(3), [mine, shared]) == [mine]


def test_a_process_with_inherited_sockets_may_work_for_others(
    system: System, evidence: OwnerEvidence
) -> None:
    inherited = [request(system.socket(1, 2)) for _ in range(2)]
    other = request(system.socket(1))
    call = system.socket(2)
    assert says(evidence, call, [*inherited, other]) is None
    assert says(evidence, call, [other, request(system.socket(3))]) is None


def test_a_connection_may_be_handed_on_between_requests(
    system: System, evidence: OwnerEvidence
) -> None:
    handed, call = system.socket(1), system.socket(1)
    kept = system.socket(2)
    first = request(handed)
    assert says(evidence, call, [first, request(kept)]) == [first]
    system.hand_over(handed, 2)
    system.hand_over(kept, 1)
    again, other = request(handed), request(kept)
    assert says(evidence, call, [again, other]) == [other]


def test_a_process_that_only_accepts_may_hand_a_request_on_at_any_time(
    system: System, evidence: OwnerEvidence
) -> None:
    handed, call = system.socket(9), system.socket(1)
    causes = [request(system.socket(1)), request(handed), request(system.socket(2))]
    assert says(evidence, call, causes) == causes[:1]
    system.hand_over(handed, 1)
    assert says(evidence, call, causes) == causes[:2]


def test_a_new_process_may_have_inherited_sockets(system: System, evidence: OwnerEvidence) -> None:
    inherited, call = system.socket(1), system.socket(1)
    causes = [request(inherited), request(system.socket(2))]
    assert says(evidence, call, causes) == causes[:1]
    system.held[system.inodes[inherited]] += [(3, system.inodes[inherited])]
    system.generation += 1
    assert says(evidence, call, causes) is None


def test_a_call_on_another_process_than_before(system: System, evidence: OwnerEvidence) -> None:
    causes = [request(system.socket(1)), request(system.socket(2))]
    call = system.socket(1)
    assert says(evidence, call, causes) == causes[:1]
    system.hand_over(call, 2)
    assert says(evidence, call, causes) == causes[1:]


OWNERS = st.one_of(
    st.sampled_from(["no carrier", "unsent", "queued", "unknown"]),
    st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True),
)


@given(st.lists(OWNERS, min_size=1, max_size=6), st.integers(1, 3))
def test_no_request_that_may_be_the_cause_is_left_out(
    owners: list[str | list[int]], caller: int
) -> None:
    system = System()
    evidence = OwnerEvidence(system, Clock())
    causes, possible, unsure = [], [], False
    for owner in owners:
        if isinstance(owner, list):
            causes.append(request(system.socket(*owner)))
            possible += [causes[-1]] if caller in owner else []
        else:
            inode = QUEUED if owner == "queued" else UNKNOWN
            sent = owner in ("queued", "unknown")
            causes.append(
                request(system.socket(inode=inode) if sent else None, owner != "no carrier")
            )
            unsure = unsure or owner in ("no carrier", "unknown")
    for _ in range(2):
        verdict = evidence.judge(system.socket(caller), causes)
        if verdict is not None:
            assert not unsure
            assert list(verdict.causes) == possible


# Cost and failure


def test_off_asks_nothing() -> None:
    evidence = OwnerEvidence(NoLookup(), Clock())
    for _ in range(3):
        assert evidence.judge(Socket(("::1", 1), ("::1", 2)), [request(None)]) is None
    assert evidence.stats == {"off": 1}


@pytest.mark.parametrize(
    ("error", "reason", "pause"),
    [(OwnerError("denied"), "denied", 30), (OwnerError("not_visible"), "not_visible", 30),
     (ZeroDivisionError(), "error", 60)],
)  # fmt: skip
def test_after_a_failure_nobody_looks_for_a_while(
    system: System, clock: Clock, evidence: OwnerEvidence, error: Exception, reason: str, pause: int
) -> None:
    causes = [request(system.socket(1)), request(system.socket(2))]
    call = system.socket(1)
    system.error = error
    assert says(evidence, call, causes) is None
    asked = system.questions
    clock.now += pause - 1
    assert says(evidence, call, causes) is None
    assert system.questions == asked
    clock.now += 2
    assert says(evidence, call, causes) is None
    clock.now += 2 * pause - 1
    system.error = None
    assert says(evidence, call, causes) is None
    assert evidence.stats[reason] == 2
    clock.now += 2
    assert says(evidence, call, causes) == causes[:1]


def test_what_never_tells_anything_is_hardly_asked(
    system: System, clock: Clock, evidence: OwnerEvidence
) -> None:
    causes = [request(system.socket(inode=UNKNOWN)), request(system.socket(1))]
    call = system.socket(1)
    for _ in range(10_000):
        clock.now += 0.01
        evidence.judge(call, causes)
    assert evidence.stats["cause_unknown"] < 400


def test_look_ups_take_a_share_of_the_time(system: System, clock: Clock) -> None:
    worked = Clock()

    class Slow(System):
        def look(self, sockets: Sequence[Socket]) -> Sequence[tuple[int, int]]:
            worked.now += 0.005
            return super().look(sockets)

    slow = Slow()
    evidence = OwnerEvidence(slow, clock, worked, share=0.1)
    sockets = [slow.socket(1), slow.socket(2)]
    for each in sockets:
        evidence.sending(each, 100, fresh=True)
    causes = [request(each) for each in sockets]
    began = worked.now
    for _ in range(2000):
        clock.now += 0.005
        evidence.judge(slow.socket(1), causes)
    assert worked.now - began < 0.1 * 10 + 0.06
    assert evidence.stats["over_budget"] > 1000
    assert evidence.stats["process_one"] > 150


def test_what_was_refuted_is_not_said_again_soon(
    system: System, clock: Clock, evidence: OwnerEvidence
) -> None:
    causes = [request(system.socket(1)), request(system.socket(2))]
    call = system.socket(1)
    verdict = evidence.judge(call, causes)
    assert verdict is not None
    evidence.refuted(verdict)
    assert evidence.judge(call, causes) is None
    clock.now += 61
    assert evidence.judge(call, causes) is not None


def test_a_call_without_a_socket(evidence: OwnerEvidence) -> None:
    assert evidence.judge(None, [request(None)]) is None
