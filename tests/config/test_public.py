import json

from meshproxy.config.loader import load
from meshproxy.config.public import to_public

TEXT = """
inbound: [{upstream: "127.0.0.1:8080"}]
export:
  - {type: otlp, endpoint: "https://user:hush@collector:4318/v1/traces?key=hush",
     headers: {api-key: hush}}
  - {type: console}
"""


def test_what_is_secret_is_not_shown() -> None:
    public = to_public(load(TEXT, {}))
    assert "hush" not in json.dumps(public)
    otlp, console = public["export"]
    assert otlp["endpoint"] == "https://***@collector:4318/v1/traces?***"
    assert otlp["headers"] == {"api-key": "***"}
    assert console["type"] == "console"


def test_everything_else_is_shown() -> None:
    public = to_public(load(TEXT, {}))
    assert public["inbound"][0]["upstream"] == "127.0.0.1:8080"
    assert public["inbound"][0]["mode"] == "reverse-proxy"
    assert public["limits"]["drain"] == 45.0


def test_an_endpoint_without_secrets_stays_as_it_is() -> None:
    text = TEXT.replace("user:hush@", "").replace("?key=hush", "")
    endpoint = to_public(load(text, {}))["export"][0]["endpoint"]
    assert endpoint == "https://collector:4318/v1/traces"
