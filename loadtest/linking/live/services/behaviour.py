"""What a service does for a request: pure, and needs nothing but the standard library.

``/route/{behaviour}`` names one of `BEHAVIOURS`. A behaviour is a list of stages; the calls of a
stage go out at the same time. ``service.js`` says the same in JavaScript.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

INBOUND_NONCE = "x-rig-inbound"
CALL_NONCE = "x-rig-call"
"""What truth is told by. They differ from message to message, so no message repeats another's."""

NO_REQUEST = "-"
"""In the truth, in place of an inbound nonce: no request caused the call."""

REQUEST_ID = "x-request-id"
AUTHORIZATION = "authorization"
SERVICE_HEADERS = (INBOUND_NONCE, REQUEST_ID, AUTHORIZATION)
"""What a service reads of a request's headers."""

DESTINATIONS = ("stock", "pricing", "users", "payment", "audit", "flags")
BEHAVIOURS = ("seq", "fan", "skip", "retry", "after")

ECHOES = {"path": 0.3, "body": 0.2, "request_id": 0.2, "answer": 0.15, "user": 0.15}
"""The ways to echo, and how often each is taken: the order id in the path or in the JSON body, the
request id, an id that an earlier answer gave, the token of a user (who may have several requests
in flight)."""

ITEMS = 40
"""Items are few: their numbers are in requests and, by chance only, in the same request's calls."""

THINK_SECONDS = 0.003
LATE_SECONDS = 0.02
SPREAD = 0.7
SKIPPED = 0.5
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Call:
    """One call, sent up to ``attempts`` times until it is answered with less than 500."""

    destination: str
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls that go out together after ``think`` seconds; ``late``: after the answer was sent."""

    calls: tuple[Call, ...]
    think: float
    late: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a service knows of a request that it works on."""

    behaviour: str
    nonce: str
    order_id: str
    request_id: str
    authorization: str


@dataclass(frozen=True, slots=True)
class Message:
    """A call as it goes on the wire, without the nonce."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None


def request_of(target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Read ``GET /route/{behaviour}/orders/{id}`` or ``POST /route/{behaviour}``.

    ``headers`` has lower-case names. Raises `ValueError` for other targets.
    """
    route, _, rest = urlsplit(target).path.lstrip("/").partition("/")
    behaviour, _, order = rest.partition("/orders/")
    if route != "route" or behaviour not in BEHAVIOURS:
        raise ValueError(f"no such route: {target}")
    return Request(
        behaviour=behaviour,
        nonce=headers[INBOUND_NONCE],
        order_id=order or json.loads(body)["order_id"],
        request_id=headers.get(REQUEST_ID, ""),
        authorization=headers.get(AUTHORIZATION, ""),
    )


def item_of(target: str) -> str:
    """The item that a request asks for; services put it into their answers."""
    return parse_qs(urlsplit(target).query).get("item", [""])[0]


def plan(behaviour: str, rng: random.Random) -> list[Stage]:
    """The stages of one request of a behaviour."""
    think = lognormal(rng, THINK_SECONDS)
    if behaviour == "seq":
        return _one_by_one(rng, ["stock", "pricing", "users"])
    if behaviour == "skip":
        optional = [each for each in ("pricing", "users") if rng.random() >= SKIPPED]
        return _one_by_one(rng, ["stock", *optional])
    if behaviour == "fan":
        spread = tuple(Call(each) for each in ("stock", "pricing", "audit"))
        return [*_one_by_one(rng, ["users"]), Stage(spread, think)]
    if behaviour == "retry":
        return [*_one_by_one(rng, ["users"]), Stage((Call("payment", ATTEMPTS),), think)]
    late = Stage((Call("audit"),), lognormal(rng, LATE_SECONDS), late=True)
    return [*_one_by_one(rng, ["pricing"]), late]


def _one_by_one(rng: random.Random, destinations: Sequence[str]) -> list[Stage]:
    return [Stage((Call(each),), lognormal(rng, THINK_SECONDS)) for each in destinations]


def lognormal(rng: random.Random, median: float, spread: float = SPREAD) -> float:
    """A time as services have them: mostly short, now and then long."""
    return median * rng.lognormvariate(0.0, spread)


def choose_echo(request: Request, share: float, answer: str, rng: random.Random) -> str:
    """The way in which a call echoes its request, or ``none``; ``share`` of the calls do."""
    if rng.random() >= share:
        return "none"
    # By the request: a service echoes the same way throughout a handler.
    kind = random.Random(request.nonce).choices([*ECHOES], [*ECHOES.values()])[0]
    return "none" if kind == "answer" and not answer else kind


def message(destination: str, request: Request, echo: str, answer: str, item: int) -> Message:
    """The message of a call; ``answer`` is the id that an earlier answer gave."""
    headers = {"accept": "application/json", "user-agent": "rig"}
    token = answer if echo == "answer" else request.order_id
    if echo == "request_id":
        headers[REQUEST_ID] = request.request_id
    elif echo == "user":
        headers[AUTHORIZATION] = request.authorization
    if echo == "body" or destination in ("payment", "audit"):
        document: dict[str, object] = {"item": item, "currency": "EUR"}
        if echo in ("body", "path", "answer"):
            document["order"] = token
        headers["content-type"] = "application/json"
        return Message("POST", f"/{destination}", headers, json.dumps(document).encode())
    path = f"/{destination}/items/{item}?currency=EUR"
    if echo in ("path", "answer"):
        path = f"/{destination}/orders/{token}/items/{item}"
    return Message("GET", path, headers, None)


def background_message(destination: str, item: int) -> Message:
    """What a timer sends: to ``flags``, which only it calls, or to one that requests call too."""
    path = "/flags" if destination == "flags" else f"/{destination}/items/{item}?currency=EUR"
    return Message("GET", path, {"accept": "application/json", "user-agent": "rig"}, None)


def truth_line(behaviour: str, echo: str, inbound: str, call: str) -> str:
    """A line of the truth file. ``inbound`` is `NO_REQUEST` when there is none."""
    return f"{behaviour} {echo} {inbound} {call}\n"
