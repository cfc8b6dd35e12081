"""The command line as its users meet it: a process."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jsonschema
import pytest
import yaml

from meshproxy import __version__, cli

GOOD = 'inbound: [{upstream: "127.0.0.1:8080"}]\n'
BAD = "inbound: [{}]\nlimits: {headers: 0}\n"

TRACES = [f"{number:032x}" for number in range(5)]
DROPPED = {
    "service": "cart",
    "route": "POST /checkout",
    "destination": "pricing:8080",
    "kind": "dropped",
    "count": 5,
    "calls": 20,
    "share": 0.25,
    "evidence": {"only_in_flight": 4, "none": 1},
    "example_trace_ids": TRACES[:2],
    "advice": "Pass traceparent on.",
}
GAPS = {
    "gaps": [
        DROPPED,
        DROPPED | {"route": "(unknown)", "share": 0.001, "example_trace_ids": TRACES[2:]},
        {"service": "cart\x1b[31m", "kind": "restarted", "count": 1, "calls": 0},
    ]
}


def meshproxy(
    *arguments: str, stdin: str = "", columns: int = 0
) -> subprocess.CompletedProcess[str]:
    proxy = "http://127.0.0.1:9"
    changed = {"HTTP_PROXY": proxy, "http_proxy": proxy, "COLUMNS": str(columns)}
    return subprocess.run(
        [sys.executable, "-m", "meshproxy", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | changed,
    )


def file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/gaps" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class TestConfigCheck:
    def test_a_good_file(self, tmp_path: Path) -> None:
        path = file(tmp_path, "good.yaml", GOOD)
        done = meshproxy("config", "check", path)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: ok\n", "")

    def test_a_line_for_each_mistake_and_every_file_is_checked(self, tmp_path: Path) -> None:
        bad, good = file(tmp_path, "bad.yaml", BAD), file(tmp_path, "good.yaml", GOOD)
        none = str(tmp_path / "none.yaml")
        done = meshproxy("config", "check", bad, none, good)
        assert done.returncode == 1
        assert done.stdout == f"{good}: ok\n"
        assert done.stderr.splitlines() == [
            f"{bad}: limits.headers: must be at least 1",
            f"{bad}: inbound[0]: needs an upstream or a mode",
            f"{none}: file does not exist",
        ]

    def test_standard_input_and_the_environment(self) -> None:
        done = meshproxy("config", "check", "-", stdin=GOOD + "service: {name: ${PATH}}")
        assert (done.returncode, done.stdout) == (0, "-: ok\n")

    def test_a_warning_is_no_mistake(self) -> None:
        done = meshproxy("config", "check", "-", stdin=GOOD + 'admin: {listen: ":15000"}')
        assert done.returncode == 0
        assert done.stderr.startswith("-: warning: admin.listen: ")


def test_the_schema_is_printed() -> None:
    done = meshproxy("config", "schema")
    assert (done.returncode, done.stderr) == (0, "")
    jsonschema.Draft202012Validator(json.loads(done.stdout)).validate(yaml.safe_load(GOOD))


class TestGaps:
    def report(self, gaps: object, columns: int = 0) -> list[str]:
        with answering(json.dumps(gaps).encode()) as address:
            done = meshproxy("gaps", "--sidecar", f"http://{address}/", columns=columns)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def test_a_table(self) -> None:
        titles, first, second, third = self.report(GAPS)[:4]
        assert titles.split() == [
            "SERVICE", "ROUTE", "DESTINATION", "KIND", "CALLS", "SHARE", "EVIDENCE", "NOTE",
        ]  # fmt: skip
        assert first.split() == [
            "cart", "POST", "/checkout", "pricing:8080", "dropped", "5/20", "25%",
            "only_in_flight", "4,", "none", "1", "[1]",
        ]  # fmt: skip
        assert second.split()[1:6] == ["(unknown)", "pricing:8080", "dropped", "5/20", "<1%"]
        assert third.split() == ["cart?[31m", "-", "-", "restarted", "1/0", "-", "-", "[2]"]
        assert len({line.index("[") for line in (first, second)}) == 1

    def test_the_advice_is_given_once_with_traces_of_each_place(self) -> None:
        assert self.report(GAPS)[4:] == [
            "",
            "What to change:",
            "[1] dropped: Pass traceparent on.",
            f"    example traces: {TRACES[0]} {TRACES[2]}",
            f"    {TRACES[1]}",
            "[2] restarted: -",
            "    example traces: -",
        ]

    @pytest.mark.parametrize("columns", [80, 100, 120])
    def test_it_fits_a_terminal(self, columns: int) -> None:
        long = "GET /a/rather/long/route/that/nobody/shortened/{id}/at/all/for/anybody"
        gap = DROPPED | {
            "service": "recommendation-service-of-the-shop",
            "route": long,
            "destination": "pricing.production.svc.cluster.local:8080",
            "kind": "tracestate-lost",
            "advice": "Do this and do that. " * 20,
        }
        lines = self.report({"gaps": [gap, DROPPED]}, columns)
        assert max(map(len, lines)) <= columns
        assert lines[1].split()[-1] == "[1]"
        assert "…" in lines[1]
        assert "tracestate-lost" in lines[1]
        assert TRACES[0] in "".join(lines)

    def test_without_a_terminal_nothing_is_cut(self) -> None:
        route = "GET /" + "x" * 60
        destination = "y" * 60
        line = self.report({"gaps": [DROPPED | {"route": route, "destination": destination}]})[1]
        assert route in line
        assert destination in line

    def test_hostile_texts_stay_in_their_cells(self) -> None:
        hostile = "\x1b]0;x\x07\r\n\u202e\u2028" + "a" * 5000
        gap = dict.fromkeys(DROPPED, hostile) | {
            "evidence": {hostile: hostile},
            "example_trace_ids": [hostile, 1, None, {"a": hostile}],
            "share": [hostile],
        }
        lines = self.report({"gaps": [gap, {"example_trace_ids": 3, "evidence": [1]}, {}]}, 80)
        assert all(line.isprintable() for line in lines)
        assert lines.index("What to change:") == 5, "a line for each row"
        assert not set("\x1b\x07\u202e\u2028") & set("".join(lines))

    def test_json(self) -> None:
        with answering(json.dumps(GAPS).encode()) as address:
            done = meshproxy("gaps", "--json", "--sidecar", address)
        assert json.loads(done.stdout) == GAPS

    def test_no_gaps(self) -> None:
        with answering(b'{"gaps": []}') as address:
            done = meshproxy("gaps", "--sidecar", address)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("no gaps")

    @pytest.mark.parametrize(
        "body",
        [b"hello", b"[]", b"", b'{"gaps": 3}', b'{"gaps": "ab"}', b'{"gaps": {}}',
         b'{"gaps": [1]}', b'{"gaps": [{}]', b"\xff", b"[" * 100_000],
    )  # fmt: skip
    def test_an_answer_that_is_no_sidecars(
        self, body: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with answering(body) as address:
            assert cli.main(["gaps", "--sidecar", address]) == 1
        assert "does not answer as a sidecar does" in capsys.readouterr().err

    def test_another_server(self, capsys: pytest.CaptureFixture[str]) -> None:
        with answering(b"", status=404) as address:
            assert cli.main(["gaps", "--sidecar", address]) == 1
        assert "answers 404: is it a sidecar?" in capsys.readouterr().err

    def test_nobody_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        with answering(b"") as address:
            pass
        assert cli.main(["gaps", "--sidecar", address]) == 1
        assert f"no sidecar to be reached at http://{address}" in capsys.readouterr().err

    def test_which_sidecar(self) -> None:
        done = meshproxy("gaps", "--json")
        assert (done.returncode, done.stdout) == (2, "")
        assert "which sidecar? for example: --sidecar http://127.0.0.1:15000" in done.stderr

    @pytest.mark.parametrize("url", ["file:///etc/hostname", "http://[", "http://a:b"])
    def test_what_is_no_address(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["gaps", "--sidecar", url]) == 1
        assert capsys.readouterr().err.startswith("meshproxy: ")


class TestUsage:
    def test_version(self) -> None:
        done = meshproxy("--version")
        assert (done.returncode, done.stdout) == (0, f"meshproxy {__version__}\n")

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            (["sidcar", "-c", "x"], 'unknown command "sidcar", did you mean "sidecar"?'),
            (["config", "chekc"], 'unknown command "chekc", did you mean "check"?'),
            (["xyzzy"], "there is: sidecar, demo, config, gaps"),
        ],
    )
    def test_a_typo(
        self, arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(arguments) == 2
        assert hint in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [[], ["sidecar"], ["config"], ["gaps"], ["demo", "-x"]])
    def test_wrong_usage(self, arguments: list[str]) -> None:
        done = meshproxy(*arguments)
        assert done.returncode == 2
        assert "usage: meshproxy" in done.stderr
        assert done.stdout == ""

    def test_the_command_line_alone_loads_no_servers(self) -> None:
        heavy = ("aiohttp", "uvloop", "yaml", "msgspec", "structlog", "asyncio", "jsonschema")
        code = f"import sys, meshproxy.cli; print([m for m in {heavy} if m in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "[]\n"

    def test_a_good_configuration_does_not_load_the_validator(self, tmp_path: Path) -> None:
        path = file(tmp_path, "good.yaml", GOOD)
        code = (
            "import sys; from meshproxy.config.loader import load_file; "
            f"load_file({path!r}, {{}}); print('jsonschema' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "False\n"


def test_an_interrupt_leaves_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "meshproxy", "config", "check", "no-such-file", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    assert process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_a_reader_that_goes_away_is_no_error_to_tell() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "meshproxy", "config", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (1, b"")
