"""Flask and requests: ``opentelemetry-instrument python threads.py PORT``."""

from __future__ import annotations

import sys

import requests
from flask import Flask, request

app = Flask(__name__)


@app.get("/call")
def call() -> tuple[str, int]:
    answer = requests.get(request.args["url"], timeout=10)
    return answer.text, answer.status_code


app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
