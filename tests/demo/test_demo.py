"""``meshproxy demo`` from end to end: real services, real sidecars, real spans."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from meshproxy.demo import mesh
from meshproxy.demo.main import run
from meshproxy.demo.processes import DemoError
from meshproxy.demo.traffic import SEQUENTIAL

COMMAND = [sys.executable, "-m", "meshproxy", "demo"]


@contextmanager
def demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command with its output in a pipe; nothing of it is left behind."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(pattern, line)
        if found:
            return found
    raise AssertionError(f"the demo ended without saying {pattern!r}")


@pytest.fixture(scope="module")
def output() -> str:
    """What a whole run prints; it must end by itself, with exit code 0."""
    finished = subprocess.run(COMMAND, capture_output=True, text=True, timeout=90)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def section(output: str, start: str, end: str) -> str:
    return output[output.index(start) : output.index(end)]


@pytest.fixture
def before(output: str) -> str:
    return section(output, "Without meshproxy", "With meshproxy")


@pytest.fixture
def trees(output: str) -> str:
    return section(output, "With meshproxy", "3 checkouts at the same time")


@pytest.fixture
def burst(output: str) -> str:
    return section(output, "3 checkouts at the same time", "Summary")


def test_the_output_fits_a_page_and_has_no_colour_in_a_pipe(output: str) -> None:
    assert max(map(len, output.splitlines())) <= 100
    assert "\033" not in output


def test_without_meshproxy_every_hop_is_a_fragment(before: str) -> None:
    for request in SEQUENTIAL:
        assert f"GET {request.path}: {request.hops} fragments, nothing connects them" in before
    assert before.count("traceparent received: none") == sum(each.hops for each in SEQUENTIAL)


def test_with_meshproxy_each_request_is_one_tree(trees: str) -> None:
    for request in SEQUENTIAL:
        assert f"GET {request.path} ({request.about}): 1 tree" in trees
    assert len(re.findall(" SERVER | CONSUMER ", trees)) == sum(each.hops for each in SEQUENTIAL)
    assert len(re.findall(" CLIENT | PRODUCER ", trees)) == sum(
        each.hops - 1 for each in SEQUENTIAL
    )


def test_a_message_and_what_it_causes_stand_below_the_request_that_sent_it(trees: str) -> None:
    found = re.findall(
        r"orders PRODUCER send shipments +kafka .* ~ only_in_flight .*\n"
        r".*└─ shipping CONSUMER receive shipments +kafka .*\n"
        r".*└~ shipping CLIENT POST /labels/\{id\} +201 .* ~ only_in_flight .*\n"
        r".*└─ carriers SERVER POST /labels/\{id\} +201 ",
        trees,
    )
    assert len(found) == sum("/checkout/" in each.path for each in SEQUENTIAL)


def test_polls_are_left_out_of_the_trees_and_the_output_says_so(output: str) -> None:
    assert " poll shipments" not in output
    assert re.search(r"Not shown: \d+ poll spans? of shipping", output)
    assert "link to the 5 messages" in " ".join(output.split())


def test_each_mended_edge_is_marked_with_its_evidence(trees: str) -> None:
    calls = [line for line in trees.splitlines() if re.search(" CLIENT | PRODUCER ", line)]
    evidence = {line.split("~ ", 2)[-1].split()[0] for line in calls}
    assert all(re.search(r"[├└]~ .* ~ \w+ [01]\.?\d*$", line) for line in calls)
    assert {"only_in_flight", "request_id"} <= evidence


def test_the_retry_the_error_and_the_slow_hop_are_seen(trees: str) -> None:
    assert re.search(r"orders CLIENT POST /charges/\{id\} +503 error", trees)
    assert re.search(r"orders CLIENT POST /charges/\{id\} +200 resend 1", trees)
    assert re.search(r"gateway CLIENT GET /coupons/\{id\} +500 error", trees)
    slow = re.findall(r"pricing SERVER GET /prices/\{id\} +200 +([\d.]+) ms", trees)
    assert len(slow) == len(SEQUENTIAL)
    assert min(map(float, slow)) >= 250


def test_under_concurrency_calls_without_proof_are_left_open_with_candidates(burst: str) -> None:
    assert re.search(r"CLIENT .* \? ambiguous, [23] candidates", burst)
    assert "? orders SERVER POST /orders/2001" in burst
    assert re.search(r"payments CLIENT .* ~ request_id", burst)


def test_the_summary_tells_before_and_after(output: str) -> None:
    summary = output[output.index("Summary") :]
    assert re.search(r"one after another: +22 fragments before, 3 trees after", summary)
    assert re.search(r"received a context: +0 of 47 before, 47 of 47 after", summary)
    assert re.search(r"left open, candidates linked: +\d+ \(\d+ calls, \d messages?\)", summary)
    assert re.search(r"edges to the wrong request: +0\n", summary)
    assert "payments: POST /charges/{id} → ledger: dropped on 5 of 5 calls" in summary


def test_keep_serves_requests_by_hand_until_interrupted() -> None:
    with demo("--keep") as process:
        url = read_until(process, r"curl '(http://127\.0\.0\.1:\d+/checkout/\d+\S*)'")[1]
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2 * len(mesh.CALLS) + 1  # the broker
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.status == 200
        assert read_until(process, r"^  gateway SERVER GET /checkout/\{id\}")
        assert read_until(process, r"ledger SERVER POST /entries/\{id\}")
        assert read_until(process, r"carriers SERVER POST /labels/\{id\}")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert not any(child.is_running() for child in children)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_at_any_time_leaves_nothing_behind(number: signal.Signals) -> None:
    with demo() as process:
        read_until(process, "^Without meshproxy")
        watched = psutil.Process(process.pid)
        children: list[psutil.Process] = []
        while not children:  # the second mesh is about to start
            children = watched.children(recursive=True)
        process.send_signal(number)
        process.send_signal(number)
        assert process.wait(20) == 128 + number
        gone, alive = psutil.wait_procs(children, 5)
        assert gone
        assert not alive


def test_a_closed_pipe_ends_the_demo_quietly() -> None:
    with demo() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == ""


def test_a_missing_package_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    assert run(keep=False) == 1
    told = capsys.readouterr()
    assert "pip install meshproxy[dev]" in told.err
    assert "confluent_kafka" in told.err
    assert told.out == ""


async def test_a_sidecar_that_does_not_start_is_shown_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh, "sidecar_config", lambda *_: {"no_such_key": 1})
    with pytest.raises(DemoError) as told:
        async with mesh.Mesh(tmp_path, "http://127.0.0.1:9"):
            raise AssertionError("the mesh must not start")
    assert "the sidecar of" in str(told.value)
    assert "no_such_key" in str(told.value)
    assert not psutil.Process(os.getpid()).children()
