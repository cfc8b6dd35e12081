"""Every mistake is told, with its path, and nothing but ConfigError is ever raised."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.config.loader import load
from meshproxy.config.model import Config
from meshproxy.config.problems import ConfigError

IN = 'inbound: [{upstream: "127.0.0.1:8080"}]\n'


def problems(text: str, environ: dict[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        load(text, environ or {})
    return [(problem.path, problem.message) for problem in error.value.problems]


def paths(text: str) -> list[str]:
    return [path for path, _ in problems(text)]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("a: [1\nb: 2", "line 2, column 2", "not valid YAML"),
        ("a: ${LONG_NAME}\n b: ]", "line 2, column 3", "not valid YAML"),
        ("\x01", "line 1, column 1", "U+0001 is not allowed"),
        ("a: 1\n---\nb: 2", "line 2, column 1", "single document"),
        ("- a", "", "must be a mapping"),
        ("just text", "", "must be a mapping"),
        ("", "", "nothing is configured"),
        ("[" * 1000, "", "nested too deeply"),
        ("a: &a [*a]", "", "nested too deeply"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
         "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
         "e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]", "", "values"),
        (IN + "service: {name: a, name: b}", "service.name", "is given twice (again on line 2)"),
        (IN + "1: a", "", "key on line 2 must be a text"),
        (IN + "service: {name: !!python/name:os.system x}", "service.name", "tag"),
        (IN + "service: {name: ${NOPE}}", "service.name", "NOPE is not set"),
        (IN + 'service: {name: "${1A}"}', "service.name", "malformed variable"),
        (IN + 'service: {name: "${A"}', "service.name", "malformed variable"),
        (IN + 'service: {name: "\\ud800"}', "service.name", "not valid Unicode"),
        (IN + "servise: {}", "servise", 'unknown key, did you mean "service"?'),
        ('inbound: [{listn: ":1", upstream: "a:1"}]', "inbound[0].listn",
         'unknown key, did you mean "listen"?'),
        (IN + "limits: {qwertz: 1}", "limits.qwertz", "unknown key"),
        (IN + '"a b": 1', '["a b"]', "unknown key"),
        (IN + "admin:", "admin", "must be a mapping, not empty"),
        (IN + "service: {version: 1.10}", "service.version",
         "must be a text, not a number (put it in quotes)"),
        (IN + "limits: {headers: many}", "limits.headers", "must be a whole number, not a text"),
        (IN + "limits: {headers: 1.5}", "limits.headers", "must be a whole number"),
        (IN + "limits: {headers: true}", "limits.headers", "not a truth value"),
        (IN + "limits: {headers: 0}", "limits.headers", "must be at least 1"),
        (IN + "limits: {headers: 99999999999999999999}", "limits.headers", "too large"),
        (IN + "limits: {header_bytes: 10}", "limits.header_bytes", "must be at least 1024"),
        (IN + "limits: {drain: 0s}", "limits.drain", "must be more than 0"),
        (IN + "limits: {drain: 9999h}", "limits.drain", "must be at most 31536000"),
        (IN + "limits: {drain: 5 seconds}", "limits.drain", "must be a duration"),
        (IN + "limits: {drain: [5]}", "limits.drain", "must be a number, not a list"),
        (IN + "sampling: {default: 1.1}", "sampling.default", "must be at most 1"),
        (IN + "sampling: {default: 1e999}", "sampling.default", "too large"),
        (IN + "sampling: {default: .nan}", "sampling.default", "must be a number, not a text"),
        (IN + "linking: {threshold: -1}", "linking.threshold", "must be at least 0"),
        (IN + "linking: {process: on}", "linking.process", 'must be one of auto, off, not "on"'),
        (IN + "propagation: {extract: [b3mutli]}", "propagation.extract[0]",
         'did you mean "b3multi"?'),
        (IN + "propagation: {strip: ['a b']}", "propagation.strip[0]", "*.domain"),
        (IN + "propagation: {strip: ['*.a:80']}", "propagation.strip[0]", "*.domain"),
        (IN + "propagation: {strip: ['[::1]']}", "propagation.strip[0]", "*.domain"),
        (IN + "routes: {templates: ['/*/a']}", "routes.templates[0]", "last segment"),
        (IN + "log: {access: 1}", "log.access", "must be true or false, not a number"),
        (IN + "opaque_ports: [25, 70000]", "opaque_ports[1]", "must be at most 65535"),
        (IN + "opaque_ports: 25", "opaque_ports", "must be a list, not a number"),
        (IN + "capture: {request_headers: [a b]}", "capture.request_headers[0]", "token"),
        (IN + "routes: {templates: [users]}", "routes.templates[0]", 'must begin with "/"'),
        (IN + "routes: {templates: ['/a/{id']}", "routes.templates[0]", "placeholder"),
        (IN + "routes: {templates: ['/{}']}", "routes.templates[0]", "placeholder"),
        (IN + "routes: {templates: ['/x{id}']}", "routes.templates[0]", "placeholder"),
        (IN + "routes: {templates: ['/{a}/{a}']}", "routes.templates[0]", "twice"),
        (IN + "routes: {templates: ['/a?b']}", "routes.templates[0]", "path"),
        (IN + "sampling: {rules: [{}]}", "sampling.rules[0]", "neither"),
        (IN + "sampling: {rules: [{drop: true, ratio: 1}]}", "sampling.rules[0]", "both"),
        (IN + "sampling: {rules: [{ratio: 1, match: {method: a b}}]}",
         "sampling.rules[0].match.method", "token"),
        (IN + "sampling: {rules: [{ratio: 1, match: {path: a}}]}",
         "sampling.rules[0].match.path", 'must begin with "/"'),
        (IN + "sampling: {rules: [{ratio: 1, match: {headers: {'a b': c}}}]}",
         'sampling.rules[0].match.headers["a b"]', "token"),
        (IN + "export: [{}]", "export[0].type", "is required: one of otlp, console, file"),
        (IN + "export: [{type: oltp}]", "export[0].type", 'did you mean "otlp"?'),
        (IN + "export: [{type: [1]}]", "export[0].type", "not a list"),
        (IN + "export: [otlp]", "export[0]", "must be a mapping, not a text"),
        (IN + "export: [{type: otlp}]", "export[0].endpoint", "is required"),
        (IN + "export: [{type: otlp, endpoint: 'collector:4318'}]", "export[0].endpoint", "http"),
        (IN + "export: [{type: otlp, endpoint: 'ftp://c'}]", "export[0].endpoint", "http"),
        (IN + "export: [{type: otlp, endpoint: 'http://c:99999'}]", "export[0].endpoint", "port"),
        (IN + "export: [{type: otlp, endpoint: 'http://'}]", "export[0].endpoint", "URL"),
        (IN + 'export: [{type: otlp, endpoint: "http://c", headers: {a: "b\\nc"}}]',
         "export[0].headers.a", "no line breaks"),
        (IN + "export: [{type: console, queue: {size: 10, batch: 11}}]", "export[0].queue.batch",
         "must not be more than the queue's size, 10"),
        ('inbound: [{upstream: "pricing"}]', "inbound[0].upstream", "needs a port"),
        ('inbound: [{upstream: ":80"}]', "inbound[0].upstream", "needs a host"),
        ('inbound: [{upstream: "a:1", tls: {cert: c}}]', "inbound[0].tls.key", "is required"),
        ('inbound: [{upstream: "a:1", upstream_tls: {key: k}}]', "inbound[0].upstream_tls.cert",
         "is required when key is given"),
        ("inbound: [{}]", "inbound[0]", "needs an upstream or a mode"),
        ("inbound: [{mode: reverse-proxy}]", "inbound[0].upstream", "is required"),
        ('inbound: [{mode: redirect, upstream: "a:1"}]', "inbound[0].upstream", "mode redirect"),
        ("outbound: [{mode: fixed}]", "outbound[0].upstream", "is required in mode fixed"),
        ('outbound: [{mode: forward-proxy, upstream: "a:1"}]', "outbound[0].upstream",
         "does not go with mode forward-proxy"),
        ('inbound: [{listen: ":80", upstream: "127.0.0.1:80"}]', "inbound[0].upstream",
         "leads back to this listener's own address"),
        (IN + 'admin: {listen: "127.0.0.1:15006"}', "admin.listen", "taken by inbound[0].listen"),
        ('outbound: [{upstream: "a:1"}, {upstream: "b:1"}]', "outbound[1].listen", "taken by"),
        ('inbound: [{upstream: "a:1", protocol: kafka}]', "inbound[0].protocol",
         'must be one of auto, http, opaque, not "kafka"'),
        ("outbound: [{mode: redirect, protocol: kafka}]", "outbound[0].protocol",
         "kafka does not go with mode redirect: give the address of a broker as upstream"),
        ("outbound: [{protocol: kafka}]", "outbound[0]", "needs an upstream or a mode"),
        ('outbound: [{upstream: "a:1", kafka: {}}]', "outbound[0].kafka",
         "goes with protocol kafka only"),
        ('outbound: [{upstream: "a:1", protocol: kafka, kafka: {frame_bytes: 1}}]',
         "outbound[0].kafka.frame_bytes", "must be at least 65536"),
        ('outbound: [{upstream: "a:1", protocol: kafka, kafka: {broker_port: 1}}]',
         "outbound[0].kafka.broker_port", 'did you mean "broker_ports"?'),
        ('outbound: [{upstream: "kafka:9092,kafka2:9092", protocol: kafka}]',
         "outbound[0].upstream", "single address; of a Kafka cluster, one broker is enough"),
        ('outbound: [{upstream: "kafka-1,kafka-2:9092"}]', "outbound[0].upstream",
         "single address"),
        ('outbound: [{listen: ":1,:2", mode: redirect}]', "outbound[0].listen", "single address"),
        ('outbound: [{upstream: "a:1", protocol: kafka, kafka: {broker_ports: 0}}]',
         "outbound[0].kafka.broker_ports", "must be at least 1"),
        ("outbound: [{mode: redirect}, {mode: redirect}]", "outbound[1].listen", "taken by"),
        ('outbound: [{mode: redirect}, {mode: forward-proxy, listen: ":15001"}]',
         "outbound[1].listen", "taken by outbound[0].listen"),
    ],
)  # fmt: skip
def test_one_mistake(text: str, path: str, message: str) -> None:
    ((found_path, found_message),) = problems(text)
    assert found_path == path
    assert message in found_message
    assert "\n" not in found_message


@pytest.mark.parametrize("section", ["inbound", "outbound"])
def test_a_protocol_to_come_is_refused_with_what_there_is(section: str) -> None:
    text = f'{section}: [{{listen: ":5672", upstream: "rabbit:5672", protocol: amqp}}]'
    there = "auto, http, kafka, opaque" if section == "outbound" else "auto, http, opaque"
    assert problems(text) == [
        (f"{section}[0].protocol", f"protocol amqp is not there yet; available: {there}")
    ]


def test_mistakes_of_all_kinds_are_told_at_once() -> None:
    text = """
service: {name: ${NOPE}, version: 1.10}
inbound:
  - {listen: ":1", upstream: "127.0.0.1:80", wobble: 1}
  - 3
  - {listen: ":2", mode: redirect, upstream: "a:1"}
  - {listen: ":1", mode: redirect, trust: nobody}
limits: {drain: 5x, headers: 0, headers: 1}
export: [{type: file, path: 3}, {type: otlp, endpoint: c}, {type: console, queue: {batch: 9999}}]
"""
    assert sorted(paths(text)) == sorted(
        [
            "service.name", "service.version", "inbound[0].wobble", "inbound[1]",
            "inbound[2].upstream", "inbound[3].trust", "limits.drain", "limits.headers",
            "limits.headers", "export[0].path", "export[1].endpoint", "export[2].queue.batch",
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('inbound: [{upstraem: "a:1"}]', "inbound[0].upstraem"),
        ('inbound: [{upstream: "a"}]', "inbound[0].upstream"),
        ("inbound: [{mode: redirected}]", "inbound[0].mode"),
        ("inbound: 3", "inbound"),
        ("inbuond: [{}]", "inbuond"),
        ("inbound: [3]", "inbound[0]"),
        (IN + "sampling: {rules: [{ratio: 2}]}", "sampling.rules[0].ratio"),
    ],
)
def test_a_mistake_draws_no_others_after_it(text: str, path: str) -> None:
    assert paths(text) == [path]


def test_no_value_that_may_be_secret_is_repeated() -> None:
    text = IN + 'export: [{type: otlp, endpoint: "x://u:hush@c", headers: {a: "${TOKEN}"}}]'
    found = problems(text, {"TOKEN": "hush\n"})
    assert [path for path, _ in found] == ["export[0].endpoint", "export[0].headers.a"]
    assert not any("hush" in message for _, message in found)


SECTIONS = list(Config.__struct_fields__)
WORDS = [
    "listen", "upstream", "mode", "type", "tls", "queue", "match", "rules", "headers", "redirect",
    "otlp", "console", "127.0.0.1:80", ":80", "5s", "${A}", "${", "$${", "auto", "http://c",
]  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(WORDS),
)
KEYS = st.one_of(st.sampled_from(SECTIONS + WORDS), st.text(max_size=4), st.integers())
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(SECTIONS), TREES, max_size=5))
def test_no_tree_raises_anything_else(tree: dict[str, object]) -> None:
    check(yaml.safe_dump(tree, allow_unicode=True))


@given(st.text(st.sampled_from("inbound:{}[],\"'&*!|>-?#%@` \n\t$~0a.e+\\U\ue000\ue001\ue002")))
def test_no_text_raises_anything_else(text: str) -> None:
    check(text)


def check(text: str) -> None:
    try:
        config = load(text, {"A": "5"})
    except ConfigError as error:
        assert all(problem.message for problem in error.problems)  # noqa: PT017
    else:
        assert config.inbound or config.outbound
