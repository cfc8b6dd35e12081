"""The documentation names what the code has: metrics, endpoints, attributes, reasons, kinds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from meshproxy.config.loader import load
from meshproxy.export.telemetry import Telemetry
from meshproxy.linking.content import Content
from meshproxy.linking.gaps import Gap, GapReport
from meshproxy.linking.inflight import InFlight
from meshproxy.linking.linker import INFERRED
from meshproxy.linking.owners import PROCESS
from meshproxy.linking.threads import THREAD
from meshproxy.sidecar.admin import Admin
from meshproxy.sidecar.metrics import Metrics
from meshproxy.stats import Stats

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATING, SPANS, GAPS, KAFKA = (
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("operating", "spans", "gaps", "kafka")
)
ATTRIBUTE = re.compile(r"[a-z_]+(\.[a-z_]+)+")


def trees(*folders: str) -> Iterator[ast.AST]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ast.parse(path.read_text())


def nodes(*folders: str) -> Iterator[ast.AST]:
    for tree in trees(*folders):
        yield from ast.walk(tree)


def text_of(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def arguments(function: str, position: int, *folders: str) -> set[str]:
    """The texts that stand at a position of all calls of a function."""
    calls = [
        node
        for node in nodes(*folders)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == function
    ]
    return {text_of(call.args[position]) for call in calls if len(call.args) > position} - {""}


def in_first_column(text: str, heading: str) -> set[str]:
    """What stands in backticks in the first column of the tables below a heading."""
    section = re.split(r"^##+ ", text.partition(f"# {heading}\n")[2], flags=re.M)[0]
    cells = re.findall(r"^\| (.*?) \|", section, flags=re.M)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_metrics() -> None:
    content = Content(bytes(16), 100)
    metrics = Metrics(Stats(), InFlight(), content, GapReport(), Telemetry([], ()))
    page = metrics.render().decode()
    assert in_first_column(OPERATING, "Metrics") == set(re.findall(r"^# TYPE (\S+)", page, re.M))


def test_admin_endpoints() -> None:
    routes = Admin(cast(Any, None)).full().router.routes()
    served = {
        f"{route.method} `{route.resource.canonical}`"
        for route in routes
        if route.resource is not None and route.method != "HEAD"
    }
    section = OPERATING.partition("## Admin endpoints")[2]
    assert set(re.findall(r"^\| ((?:GET|POST) `.*?`) \|", section, re.M)) == served


def test_refusals() -> None:
    folders = ("meshproxy/wire", "meshproxy/transport")
    of_requests = {
        text_of(node.args[1])
        for node in nodes(*folders)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "ProtocolError"
        and ast.unparse(node.args[0]) != "502"
    } - {""}
    of_connections = arguments("_refuse", 1, *folders) | {"too_many_connections"}
    assert in_first_column(OPERATING, "What is refused") == of_requests | of_connections


def test_failures() -> None:
    folder = "meshproxy/transport"
    kinds = arguments("Failure", 0, folder) | arguments("ConnectError", 0, folder)
    kinds |= arguments("upstream_failed", 1, folder) | {"stale_connection"}
    assert in_first_column(OPERATING, "Failures") == kinds


def test_reasons_for_dropped_spans() -> None:
    """They are constants whose value is their own name."""
    named: set[str] = set()
    for node in nodes("meshproxy/export"):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = text_of(node.value)
            named |= {value for each in targets if value and ast.unparse(each) == value.upper()}
    assert in_first_column(OPERATING, "When the backend is down") == named


def test_limits() -> None:
    defaults = load("inbound: [{mode: redirect}]", {}).limits
    assert in_first_column(OPERATING, "Limits") == set(defaults.__struct_fields__)


def test_attributes() -> None:
    """Every attribute name in the filters is in backticks on the page."""
    texts = {text_of(node) for node in nodes("filters", "meshproxy/trace/formats")}
    names = {text for text in texts if ATTRIBUTE.fullmatch(text)}
    assert {"meshproxy.propagation", "http.route", "link.rank"} <= names
    pages = SPANS + KAFKA
    assert sorted(name for name in names if f"`{name}`" not in pages) == []


def test_gap_kinds() -> None:
    assert in_first_column(GAPS, "Kinds") == {kind.value for kind in Gap}


def test_evidence() -> None:
    folder = "meshproxy/linking"
    kinds = arguments("Verdict", 0, folder) | arguments("Finding", 1, folder)
    kinds |= {"content", PROCESS, THREAD, *INFERRED}
    assert in_first_column(GAPS, "How a call is linked") - kinds == set()
    assert kinds - set(re.findall(r"`(\w+)`", GAPS)) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize(
    "example", re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
)
def test_configurations_of_the_readme_load(example: str) -> None:
    lines = example.splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    assert load("\n".join(line[indent:] for line in lines), {})
