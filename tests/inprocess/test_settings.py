"""Environment variables by their OpenTelemetry names."""

from __future__ import annotations

import logging

import pytest

from meshproxy.inprocess.settings import BEHIND_SIDECAR, SIDECAR, behind_sidecar, read, resource


def test_without_any_spans_go_to_the_sidecar() -> None:
    found = read({})
    assert found.endpoint == SIDECAR == "http://127.0.0.1:15000/v1/traces"
    assert (found.ratio, found.service, dict(found.headers)) == (1.0, "unknown_service", {})


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/in/"}, "http://c:4318/in/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c/in?k=1"}, "http://c/in/v1/traces?k=1"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x/?k=1"}, "http://c/x/?k=1"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://[::1]:1/x"}, "http://[::1]:1/x"),
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d",
            },
            "http://c/x",
        ),
    ],
)
def test_endpoints(environ: dict[str, str], endpoint: str) -> None:
    assert read(environ).endpoint == endpoint


def test_headers_and_ratio() -> None:
    found = read(
        {
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x=1",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x=2",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
        }
    )
    assert found.headers == {"api-key": "a b", "x": "2"}
    assert found.ratio == 0.25


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER_ARG": "2"},
        {"OTEL_TRACES_SAMPLER_ARG": "often"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a..b:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{'a' * 64}:4318"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a b/"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "no-value"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a=b%0d%0ac"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a b=c"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "é=c"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "k=%E9"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "Content-Length=5"},
        {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "transfer-encoding=chunked"},
    ],
)
def test_a_mistake_is_logged_and_the_default_holds(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert read(environ) == read({})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_one_bad_header_does_not_cost_the_others(caplog: pytest.LogCaptureFixture) -> None:
    found = read({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=k,secret%0a,token=s3cret%0a"})
    assert found.headers == {"api-key": "k"}
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", True), ("true", True), (" YES ", True), ("On", True),
        ("0", False), ("false", False), ("No", False), ("off", False), ("", False),
    ],
)  # fmt: skip
def test_a_sidecar_may_stand_in_between(
    text: str, expected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert behind_sidecar({BEHIND_SIDECAR: text}) is expected
    assert not behind_sidecar({})
    assert not caplog.records


def test_what_is_neither_yes_nor_no_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert not behind_sidecar({BEHIND_SIDECAR: "perhaps"})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert BEHIND_SIDECAR in caplog.text


def test_the_resource_names_the_process() -> None:
    found = dict(
        resource(
            read(
                {
                    "OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment.name=test",
                    "OTEL_SERVICE_NAME": "orders",
                }
            ),
            "host",
            17,
        )
    )
    assert found["service.name"] == "orders"
    assert found["deployment.environment.name"] == "test"
    assert found["service.instance.id"] == "host-17"
    assert found["process.pid"] == 17
    given = "service.name=a,service.instance.id=i"
    found = dict(resource(read({"OTEL_RESOURCE_ATTRIBUTES": given}), "host", 17))
    assert (found["service.name"], found["service.instance.id"]) == ("a", "i")
