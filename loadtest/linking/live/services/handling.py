"""The side of ``http.server`` that all services on it share."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

from loadtest.linking.live.services.behaviour import SERVICE_HEADERS, item_of, request_of
from loadtest.linking.live.services.blocking import Work


class Handler(BaseHTTPRequestHandler):
    """Answers a request when its calls are done; subclasses say how connections are kept."""

    work: Work
    closes = False
    """Whether a connection serves one request only."""
    finishes_elsewhere = True
    """Whether another thread makes the calls that come after the answer."""

    # One write for each answer, at once: no waiting for acknowledgements.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        headers = {name: self.headers[name] for name in SERVICE_HEADERS if name in self.headers}
        request = request_of(self.path, headers, body)
        late = self.work.answer(request)
        self._send(json.dumps({"item": item_of(self.path)}).encode())
        if self.finishes_elsewhere:
            self.work.finish_elsewhere(request, late)
        else:
            self.work.finish(request, late)

    do_POST = do_GET  # noqa: N815

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.closes:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""
