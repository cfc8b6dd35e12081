"""Evidence from threads, over an operating system that the tests make up."""

from __future__ import annotations

from collections.abc import Sequence

from meshproxy.linking.inflight import Cause
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import BUSY, ELSEWHERE, OwnerError
from meshproxy.linking.sockets import Socket
from tests.linking.system import Clock, System, request, says


def watched(system: System, evidence: OwnerEvidence, count: int) -> list[Socket]:
    """Connections with requests at once in one process: from now on threads are looked at."""
    sockets = [system.socket(1) for _ in range(count)]
    evidence.judge(system.socket(1), [request(each) for each in sockets])
    return sockets


def got(
    system: System, evidence: OwnerEvidence, *threads: int, fresh: bool = False
) -> list[Socket]:
    """Connections on each of which a request is sent while one of these threads waits there."""
    sockets = watched(system, evidence, len(threads))
    for thread, socket in zip(threads, sockets, strict=True):
        system.wait(1, thread, socket)
        evidence.sending(socket, 0, fresh)
    return sockets


def serve(
    system: System, evidence: OwnerEvidence, sockets: Sequence[Socket], threads: Sequence[int]
) -> None:
    """A round of requests, with these threads waiting for them."""
    for thread, socket in zip(threads, sockets, strict=True):
        system.waiting = dict.fromkeys(system.waiting, ELSEWHERE)
        system.wait(1, thread, socket)
        evidence.sending(socket, 0, fresh=False)


def says_of_the_second(
    system: System, evidence: OwnerEvidence, sockets: Sequence[Socket], causes: Sequence[Cause]
) -> list[Cause] | None:
    """A request is sent before its thread is back; whose call is the one that this thread makes?"""
    system.wait(1, 12, BUSY)
    evidence.sending(sockets[1], 0, fresh=False)
    call = system.socket(1)
    system.wait(1, 12, call)
    return says(evidence, call, causes)


def test_the_thread_that_waited_for_the_request_and_now_for_the_call(
    system: System, evidence: OwnerEvidence
) -> None:
    causes = [request(each) for each in got(system, evidence, 11, 12, 13)]
    call = system.socket(1)
    system.wait(1, 11, BUSY)
    system.wait(1, 12, call)
    verdict = evidence.judge(call, causes)
    assert verdict is not None
    assert (verdict.evidence, verdict.confidence) == ("thread", 0.995)
    assert list(verdict.causes) == [causes[1]]


def test_a_thread_that_is_not_there_yet_is_not_guessed(
    system: System, evidence: OwnerEvidence
) -> None:
    causes = [request(each) for each in got(system, evidence, 11, 12)]
    system.wait(1, 11, BUSY)
    assert says(evidence, system.socket(1), causes) is None


def test_nothing_is_known_of_the_thread_of_a_new_connection(
    system: System, evidence: OwnerEvidence
) -> None:
    causes = [request(each) for each in got(system, evidence, 11, 12, fresh=True)]
    call = system.socket(1)
    system.wait(1, 12, call)
    assert says(evidence, call, causes) is None


def test_the_thread_of_the_request_before_is_no_evidence(
    system: System, evidence: OwnerEvidence
) -> None:
    sockets = got(system, evidence, 11, 12)
    call = system.socket(1)
    system.wait(1, 11, call)
    system.wait(1, 12, ELSEWHERE)
    evidence.sending(sockets[0], 0, fresh=False)
    assert says(evidence, call, [request(each) for each in sockets]) is None


def test_one_thread_for_two_requests_at_once_is_no_evidence(
    system: System, evidence: OwnerEvidence
) -> None:
    causes = [request(each) for each in got(system, evidence, 11, 11)]
    call = system.socket(1)
    system.wait(1, 11, call)
    assert says(evidence, call, causes) is None


def test_a_loyal_thread_that_is_not_back_yet_is_taken_for_granted(
    system: System, evidence: OwnerEvidence
) -> None:
    sockets = watched(system, evidence, 2)
    for _ in range(40):
        serve(system, evidence, sockets, (11, 12))
    causes = [request(each) for each in sockets]
    assert says_of_the_second(system, evidence, sockets, causes) == [causes[1]]


def test_threads_that_change_connections_are_never_taken_for_granted(
    system: System, evidence: OwnerEvidence
) -> None:
    sockets = watched(system, evidence, 2)
    for threads in [(11, 12)] * 40 + [(12, 11)] + [(11, 12)] * 40:
        serve(system, evidence, sockets, threads)
    causes = [request(each) for each in sockets]
    assert says_of_the_second(system, evidence, sockets, causes) is None


def test_threads_that_wait_elsewhere_are_not_looked_at_for_long(
    system: System, clock: Clock, evidence: OwnerEvidence
) -> None:
    sockets = watched(system, evidence, 2)
    for thread in range(11, 19):
        system.wait(1, thread, ELSEWHERE)
    for _ in range(60):
        evidence.sending(sockets[0], 0, fresh=False)
    assert evidence.stats["threads_useless"] == 1
    evidence.judge(system.socket(1), [request(each) for each in sockets])
    clock.now += 6
    before = system.questions
    evidence.sending(sockets[0], 0, fresh=False)
    assert system.questions == before


def test_without_the_right_to_see_threads_processes_still_count(
    system: System, evidence: OwnerEvidence
) -> None:
    sockets = watched(system, evidence, 2)
    system.thread_error = OwnerError("threads_denied")
    system.wait(1, 11, sockets[0])
    evidence.sending(sockets[0], 0, fresh=False)
    assert evidence.stats["threads_denied"] == 1
    causes = [request(sockets[0]), request(system.socket(2))]
    assert says(evidence, system.socket(1), causes) == causes[:1]
