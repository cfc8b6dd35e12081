"""A WSGI application for gunicorn's sync workers: ``wsgi:application("SETTINGS")``.

A call after the answer is made by another thread of the worker, which may be at its next request by
then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from loadtest.linking.live.services.behaviour import SERVICE_HEADERS, item_of, request_of
from loadtest.linking.live.services.blocking import PerThread, Work
from loadtest.linking.live.services.settings import Settings

StartResponse = Callable[[str, list[tuple[str, str]]], object]


def application(path: str) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """The application of one worker; workers load it after the fork."""
    settings = Settings.read(path)
    work = Work(settings, PerThread)
    work.start_background(1 / settings.workers)

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        keys = {name: "HTTP_" + name.upper().replace("-", "_") for name in SERVICE_HEADERS}
        headers = {name: environ[key] for name, key in keys.items() if key in environ}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        target = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        request = request_of(target, headers, body)
        late = work.answer(request)
        sent = json.dumps({"item": item_of(target)}).encode()
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(sent)))]
        start_response("200 OK", fields)
        work.finish_elsewhere(request, late)
        return [sent]

    return answer
