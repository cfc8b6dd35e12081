"""What a configuration file may say, and what comes out of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.config import checks
from meshproxy.config.loader import SIZE_LIMIT, load, load_file
from meshproxy.config.model import Config, OtlpExporter, SamplingRule
from meshproxy.config.problems import ConfigError

CONTRACT = """
service: {name: cart, version: 2.4.1, environment: production}
inbound:
  - {listen: "0.0.0.0:15006", upstream: "127.0.0.1:8080"}
  - {listen: "0.0.0.0:15006", mode: redirect}
outbound:
  - {listen: "127.0.0.1:15001", mode: forward-proxy}
  - {listen: "127.0.0.1:15001", mode: redirect}
  - {listen: "127.0.0.1:9101", upstream: "pricing:8080", peer: pricing}
  - {listen: "127.0.0.1:9092", upstream: "kafka:9092"}
propagation: {extract: [tracecontext, b3], inject: [tracecontext], trust: mesh}
linking: {threshold: 0.99, process: auto}
sampling: {default: 0.1, rules: [{match: {path: "/healthz"}, drop: true}, {match: {route: "POST /checkout"}, ratio: 1}], rate_limit: 100, errors: always}
export:
  - {type: otlp, endpoint: "http://collector:4318"}
admin: {listen: "127.0.0.1:15000"}
limits: {header_bytes: 61440, headers: 100, connect_timeout: 5s, stream_idle: 5m, drain: 45s}
"""  # noqa: E501
"""The example of the design, without the protocol that is not there yet."""

MINIMAL = 'inbound: [{upstream: "127.0.0.1:8080"}]\n'


def test_the_designs_example_loads() -> None:
    config = load(CONTRACT, {})
    assert config.service.version == "2.4.1"
    assert [item.mode for item in config.inbound] == ["reverse-proxy", "redirect"]
    assert [item.mode for item in config.outbound] == [
        "forward-proxy", "redirect", "fixed", "fixed",
    ]  # fmt: skip
    assert config.propagation.extract == ("tracecontext", "b3")
    assert config.sampling.rules[0].drop
    assert config.sampling.rules[1].ratio == 1.0
    assert config.sampling.rate_limit == 100.0
    assert config.export == (OtlpExporter(endpoint="http://collector:4318"),)
    assert config.limits.connect_timeout == 5.0
    assert config.limits.stream_idle == 300.0
    assert config.limits.drain == 45.0


def test_listeners_have_the_default_ports_of_the_design() -> None:
    config = load("inbound: [{mode: redirect}]\noutbound: [{mode: redirect}]\nhealth: {}", {})
    listens = (config.inbound[0].listen, config.outbound[0].listen, config.admin.listen)
    assert listens == ("0.0.0.0:15006", "127.0.0.1:15001", "127.0.0.1:15000")
    assert config.health is not None
    assert config.health.listen == "0.0.0.0:15021"


def test_the_health_listener_is_left_to_the_sidecar_when_not_given() -> None:
    assert load(MINIMAL, {}).health is None


@pytest.mark.parametrize("text", ["off", '"off"', "'off'"])
def test_off_is_a_text_as_in_yaml_1_2(text: str) -> None:
    assert load(MINIMAL + f"linking: {{process: {text}}}", {}).linking.process == "off"


class TestVariables:
    def test_are_replaced_with_or_without_quotes_in_flow_and_block_style(self) -> None:
        text = MINIMAL + (
            'service: {name: ${A}, version: "${B}", environment: ${C:-prod}}\n'
            "log:\n  level: ${LEVEL:-debug}\n"
        )
        config = load(text, {"A": "cart", "B": "1.10", "C": ""})
        assert config.service.name == "cart"
        assert config.service.version == "1.10"
        assert config.service.environment == "prod"
        assert config.log.level == "debug"

    def test_take_the_type_that_their_place_asks_for(self) -> None:
        text = MINIMAL + (
            'sampling: {default: ${RATIO}, parent_based: "${BASED}"}\n'
            "limits: {headers: ${HEADERS}, drain: ${DRAIN}}\n"
            "service: {version: ${HEADERS}, namespace: ${NONE:-}}"
        )
        environ = {"RATIO": "0.5", "BASED": "false", "HEADERS": "50", "DRAIN": "3s"}
        config = load(text, environ)
        assert config.sampling.default == 0.5
        assert config.sampling.parent_based is False
        assert config.limits.headers == 50
        assert config.limits.drain == 3.0
        assert config.service.version == "50"
        assert config.service.namespace is None

    def test_may_be_part_of_a_text(self) -> None:
        config = load('outbound: [{upstream: "${HOST}:${PORT:-80}"}]', {"HOST": "pricing"})
        assert config.outbound[0].upstream == "pricing:80"

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    def test_cannot_change_the_structure_of_the_file(self, value: str) -> None:
        config = load(MINIMAL + "service: {environment: ${X}}", {"X": value})
        assert config.service == Config(service=config.service).service
        assert config.service.environment == value
        assert config.admin == Config().admin

    def test_in_comments_are_of_no_concern(self) -> None:
        assert load(MINIMAL + "# ${UNSET}", {}).inbound

    def test_a_doubled_dollar_is_a_plain_one(self) -> None:
        assert load(MINIMAL + 'service: {name: "$${A}"}', {}).service.name == "${A}"


def test_a_redirect_may_share_an_address_with_another_listener_of_its_section() -> None:
    config = load("outbound: [{mode: forward-proxy}, {mode: redirect}]", {})
    assert config.outbound[0].listen == config.outbound[1].listen


@pytest.mark.parametrize("upstream", ["kafka:9092", "10.0.0.5:9092"])
def test_an_upstream_elsewhere_may_have_the_port_of_the_listener(upstream: str) -> None:
    assert load(f'outbound: [{{listen: ":9092", upstream: "{upstream}"}}]', {}).outbound


def test_an_anchor_can_be_used_again() -> None:
    text = 'inbound: [{listen: ":1", upstream: &app "a:80"}, {listen: ":2", upstream: *app}]'
    assert [item.upstream for item in load(text, {}).inbound] == ["a:80", "a:80"]


def test_an_admin_endpoint_for_all_is_allowed_but_warned_of() -> None:
    config = load(MINIMAL + 'admin: {listen: "0.0.0.0:15000"}', {})
    (warning,) = checks.warnings(config)
    assert warning.startswith("admin.listen: ")
    assert checks.warnings(load(MINIMAL, {})) == []


def test_destinations_and_templates_of_all_forms() -> None:
    strip = ("api.example.com", "*.example.com", "example.com:443", "10.0.0.1", "::1", "[::1]:80")
    templates = ("/", "/users/{id}", "/files/{name}/*")
    text = (
        MINIMAL + f"propagation: {{strip: {list(strip)}}}\nroutes: {{templates: {list(templates)}}}"
    )
    config = load(text, {})
    assert config.propagation.strip == strip
    assert config.routes.templates == templates


def test_rules_keep_their_defaults() -> None:
    config = load(MINIMAL + "sampling: {rules: [{ratio: 0}]}", {})
    assert config.sampling.rules == (SamplingRule(ratio=0.0),)


class TestFiles:
    def test_a_file_is_loaded(self, tmp_path: Path) -> None:
        file = tmp_path / "sidecar.yaml"
        file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
        assert load_file(str(file), {}) == load(MINIMAL, {})

    @pytest.mark.parametrize(
        ("content", "path", "message"),
        [
            (b"a: 1\nb: \xff", "line 2", "is not UTF-8"),
            (b"#" * (SIZE_LIMIT + 1), "", f"is larger than {SIZE_LIMIT} bytes"),
        ],
    )
    def test_content_that_is_no_text(
        self, tmp_path: Path, content: bytes, path: str, message: str
    ) -> None:
        file = tmp_path / "sidecar.yaml"
        file.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            load_file(str(file), {})
        assert [(p.path, p.message) for p in error.value.problems] == [(path, message)]

    def test_a_file_that_is_not_there_or_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="file does not exist"):
            load_file(str(tmp_path / "none"), {})
        with pytest.raises(ConfigError, match="is a directory, not a file"):
            load_file(str(tmp_path), {})

    def test_a_file_that_is_named_must_be_readable(self, tmp_path: Path) -> None:
        there, file = tmp_path / "cert.pem", tmp_path / "sidecar.yaml"
        there.write_text("certificate")
        file.write_text(
            f'inbound: [{{upstream: "a:1", tls: {{cert: {there}, key: {tmp_path}/none}}}}]\n'
            f"export: [{{type: otlp, endpoint: 'https://c', ca: {tmp_path}}}]"
        )
        with pytest.raises(ConfigError) as error:
            load_file(str(file), {})
        assert [(p.path, p.message) for p in error.value.problems] == [
            ("inbound[0].tls.key", "file does not exist"),
            ("export[0].ca", "is a directory, not a file"),
        ]
