"""What the live rig's services send: echoes where they should be, and nothing else that tells."""

from __future__ import annotations

import json
from random import Random

import pytest

from loadtest.linking.live.load import Users, new_request
from loadtest.linking.live.services.behaviour import (
    BEHAVIOURS,
    DESTINATIONS,
    ECHOES,
    INBOUND_NONCE,
    SERVICE_HEADERS,
    Message,
    Request,
    choose_echo,
    message,
    plan,
    request_of,
)

REQUEST = Request("seq", "0123456789abcdef", "ORD-123456789012", "request-id-1", "Bearer a.b.c")
ANSWER = "fedcba9876543210"


def everything(sent: Message) -> str:
    return " ".join([sent.method, sent.path, *sent.headers.values(), (sent.body or b"").decode()])


def receive(raw: bytes) -> Request:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    pairs = (field.partition(": ") for field in fields)
    headers = {name.lower(): value for name, _, value in pairs}
    return request_of(
        line.split(" ")[1], {k: headers[k] for k in SERVICE_HEADERS if k in headers}, body
    )


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize(
    ("echo", "token"),
    [
        ("path", REQUEST.order_id),
        ("body", REQUEST.order_id),
        ("request_id", REQUEST.request_id),
        ("answer", ANSWER),
        ("user", REQUEST.authorization),
    ],
)
def test_an_echo_carries_its_own_token_and_no_other(
    destination: str, echo: str, token: str
) -> None:
    sent = everything(message(destination, REQUEST, echo, ANSWER, item=7))
    tokens = {REQUEST.order_id, REQUEST.request_id, ANSWER, REQUEST.authorization}
    assert {each for each in tokens if each in sent} == {token}


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize("echo", ["none", *ECHOES])
def test_the_truth_is_never_on_the_wire(destination: str, echo: str) -> None:
    sent = message(destination, REQUEST, echo, ANSWER, item=7)
    assert REQUEST.nonce not in everything(sent)
    assert INBOUND_NONCE not in sent.headers


def test_without_echo_calls_of_all_requests_look_the_same() -> None:
    other = Request("seq", "ffff", "another", "request-id-2", "Bearer d.e.f")
    for destination in DESTINATIONS:
        assert message(destination, REQUEST, "none", ANSWER, item=7) == message(
            destination, other, "none", "", item=7
        )


@pytest.mark.parametrize(("share", "expected"), [(0.0, {"none"}), (1.0, set(ECHOES))])
def test_the_share_of_echoes_is_kept(share: float, expected: set[str]) -> None:
    rng = Random(1)
    requests = [Request("seq", str(n), "order", "id", "user") for n in range(200)]
    assert {choose_echo(each, share, ANSWER, rng) for each in requests} == expected


def test_an_answer_is_not_echoed_before_there_is_one() -> None:
    requests = [Request("seq", str(n), "order", "id", "user") for n in range(200)]
    assert "answer" not in {choose_echo(each, 1.0, "", Random(1)) for each in requests}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_every_behaviour_calls_before_it_answers(behaviour: str) -> None:
    for seed in range(20):
        stages = plan(behaviour, Random(seed))
        assert stages[0].calls
        assert not stages[0].late
        assert [stage.late for stage in stages] == sorted(stage.late for stage in stages)


def test_a_service_understands_every_request_of_the_load() -> None:
    rng = Random(1)
    users = Users(2, rng)
    received = [receive(new_request(each, users, rng)) for each in BEHAVIOURS * 20]
    assert [each.behaviour for each in received] == [*BEHAVIOURS * 20]
    assert len({each.order_id for each in received}) == len(received)
    assert len({each.nonce for each in received}) == len(received)
    assert len({each.authorization for each in received}) == 2


def test_an_unknown_route_is_refused() -> None:
    with pytest.raises(ValueError, match="no such route"):
        request_of("/health", {}, b"")


def test_a_body_has_the_length_that_its_head_says() -> None:
    rng = Random(1)
    for _ in range(50):
        head, _, body = new_request("seq", Users(1, rng), rng).partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        assert int(length or 0) == len(body)
        assert not body or json.loads(body)["order_id"]
