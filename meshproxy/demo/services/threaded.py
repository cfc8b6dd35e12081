"""Services in the older style: a thread a connection, blocking calls one after another."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from meshproxy.demo.services.common import announce, neighbour, record_access

CALL_TIMEOUT = 10.0
SHELF_LOOKUP = 0.03
BANK_TIME = 0.02


@dataclass(frozen=True)
class Request:
    """What a service looks at: ``order`` is the last part of the path."""

    action: str
    order: str
    query: str
    headers: Mapping[str, str] | Message


Answer = tuple[int, dict[str, object]]


def fetch(method: str, url: str) -> int:
    """Call a neighbour on a connection of its own and return the status."""
    call = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    try:
        with urllib.request.urlopen(call, timeout=CALL_TIMEOUT) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def gateway(request: Request) -> Answer:
    """``/checkout/N`` orders, then redeems a coupon if there is one; ``/quote/N`` only asks."""
    if request.action == "quote":
        status = fetch("GET", f"{neighbour('orders')}/quotes/{request.order}")
        return status, {"quote": request.order}
    status = fetch("POST", f"{neighbour('orders')}/orders/{request.order}")
    if "coupon=" in request.query:
        redeemed = fetch("GET", f"{neighbour('coupons')}/coupons/{request.order}")
        return status, {"order": request.order, "coupon": redeemed == 200}
    return status, {"order": request.order}


def inventory(request: Request) -> Answer:
    """Look at the shelf."""
    time.sleep(SHELF_LOOKUP)
    return 200, {"order": request.order, "in_stock": True}


class Payments:
    """Charges cards. The bank refuses the first attempt of orders that end in 1.

    The call to the ledger copies ``X-Request-Id``, as services do for the sake of their log files.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: set[str] = set()

    def __call__(self, request: Request) -> Answer:
        """Refuse or charge."""
        with self._lock:
            refuse = request.order.endswith("1") and request.order not in self._refused
            if refuse:
                self._refused.add(request.order)
        if refuse:
            return 503, {"error": "the bank is busy"}
        time.sleep(BANK_TIME)
        return self._book(request)

    def _book(self, request: Request) -> Answer:
        request_id = request.headers.get("X-Request-Id")
        headers = {"X-Request-Id": request_id} if request_id else {}
        connection = http.client.HTTPConnection(
            urlsplit(neighbour("ledger")).netloc, timeout=CALL_TIMEOUT
        )
        try:
            connection.request("POST", f"/entries/{request.order}", b"", headers)
            response = connection.getresponse()
            response.read()
            return 200 if response.status < 300 else 502, {"charged": request.order}
        finally:
            connection.close()


def ledger(request: Request) -> Answer:
    """Write the entry."""
    return 201, {"entry": request.order}


def carriers(request: Request) -> Answer:
    """Print the label."""
    return 201, {"label": request.order}


def _service(name: str) -> Callable[[Request], Answer]:
    if name == "payments":
        return Payments()
    functions = {"gateway": gateway, "inventory": inventory, "ledger": ledger, "carriers": carriers}
    return functions[name]


class Handler(BaseHTTPRequestHandler):
    """Parses a request, runs the service's function and answers in JSON."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one write
    name: str
    service: Callable[[Request], Answer]

    def do_GET(self) -> None:
        """Answer, then write the access record."""
        started = time.time()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        action, _, order = url.path.strip("/").partition("/")
        try:
            status, body = self.service(Request(action, order, url.query, self.headers))
        except OSError as error:
            status, body = 502, {"error": str(error)}
        self._answer(status, json.dumps(body).encode())
        headers = {key.lower(): value for key, value in self.headers.items()}
        record_access(self.name, self.command, url.path, status, started, headers)

    do_POST = do_GET  # noqa: N815

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """The access record says it all."""


def serve(name: str, port: int) -> None:
    """Serve ``name`` on the loopback ``port`` until the process is killed."""
    handler = type(
        "NamedHandler", (Handler,), {"name": name, "service": staticmethod(_service(name))}
    )
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        announce(name)
        server.serve_forever()
