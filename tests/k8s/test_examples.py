"""The Kubernetes examples: their configurations are accepted, and all their parts fit together."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshproxy.config.loader import load
from meshproxy.config.model import Config
from meshproxy.config.values import Address
from meshproxy.sidecar.app import EXPORT_DRAIN
from tests.transport import namespaces

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "k8s" / "examples").glob("*.yaml"))
OWN_ID = 1337


class Example:
    """The documents of one file, and what is looked at again and again."""

    def __init__(self, path: Path) -> None:
        documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
        self.of_kind: dict[str, Any] = {each["kind"]: each for each in documents}
        self.pod: Any = self.of_kind["Deployment"]["spec"]["template"]["spec"]
        self.files: dict[str, str] = self.of_kind["ConfigMap"]["data"]
        self.config: Config = load(self.files["meshproxy.yaml"], {})
        self.init = {each["name"]: each for each in self.pod["initContainers"]}
        self.sidecar: Any = self.init["meshproxy"]
        (self.app,) = self.pod["containers"]
        self.ports = {each["name"]: each["containerPort"] for each in self.sidecar["ports"]}


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Example:
    return Example(request.param)


def port(listen: str) -> int:
    return Address.parse_listen(listen).port


def test_the_configuration_passes_config_check(example: Example, tmp_path: Path) -> None:
    file = tmp_path / "meshproxy.yaml"
    file.write_text(example.files["meshproxy.yaml"])
    done = subprocess.run(
        [sys.executable, "-m", "meshproxy", "config", "check", str(file)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: ok\n", "")


def test_the_sidecar_finds_its_configuration(example: Example) -> None:
    dockerfile = (ROOT / "k8s" / "Dockerfile").read_text()
    (command,) = re.findall(r'^CMD \["sidecar", "-c", "(.*)"\]$', dockerfile, flags=re.M)
    (mount,) = example.sidecar["volumeMounts"]
    assert Path(command).parent == Path(mount["mountPath"])
    assert Path(command).name in example.files
    (volume,) = example.pod["volumes"]
    assert volume["name"] == mount["name"]
    assert volume["configMap"]["name"] == example.of_kind["ConfigMap"]["metadata"]["name"]


def test_probes_ask_the_health_port(example: Example) -> None:
    assert example.config.health is not None
    assert example.ports["mesh-health"] == port(example.config.health.listen)
    for probe, path in (("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/healthz")):
        asked = example.sidecar[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": path, "port": "mesh-health"}


def test_what_listens_for_the_outside_is_not_on_loopback(example: Example) -> None:
    (inbound,) = example.config.inbound
    assert example.ports["mesh-in"] == port(inbound.listen)
    assert example.config.health is not None
    assert not Address.parse_listen(inbound.listen).is_loopback
    assert not Address.parse_listen(example.config.health.listen).is_loopback
    assert Address.parse_listen(example.config.admin.listen).is_loopback
    assert all(Address.parse_listen(each.listen).is_loopback for each in example.config.outbound)


def test_there_is_time_to_drain(example: Example) -> None:
    needed = example.config.limits.drain + EXPORT_DRAIN
    assert example.pod["terminationGracePeriodSeconds"] > needed


def test_the_sidecar_runs_without_privilege_and_under_its_own_user(example: Example) -> None:
    dockerfile = (ROOT / "k8s" / "Dockerfile").read_text()
    assert f"\nUSER {OWN_ID}:{OWN_ID}\n" in dockerfile
    security = example.pod["securityContext"] | example.sidecar["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (OWN_ID, OWN_ID)
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert example.app["securityContext"]["runAsUser"] != OWN_ID


def test_explicit_leads_in_and_out_by_way_of_the_sidecar() -> None:
    example = Example(ROOT / "k8s" / "examples" / "explicit.yaml")
    (service_port,) = example.of_kind["Service"]["spec"]["ports"]
    assert service_port["targetPort"] == "mesh-in"
    (inbound,) = example.config.inbound
    assert inbound.upstream is not None
    assert [{"containerPort": Address.parse(inbound.upstream).port}] == example.app["ports"]
    environment = {each["name"]: each["value"] for each in example.app["env"]}
    proxy, route, kafka = example.config.outbound
    assert proxy.mode == "forward-proxy"
    assert environment["HTTP_PROXY"] == environment["http_proxy"] == f"http://{proxy.listen}"
    assert environment["PRICING_URL"] == f"http://{route.listen}"
    assert kafka.protocol == "kafka"
    assert environment["KAFKA_BOOTSTRAP_SERVERS"] == kafka.listen
    assert set(example.init) == {"meshproxy"}


def test_redirect_rules_lead_to_the_sidecar_and_pass_it_by() -> None:
    example = Example(ROOT / "k8s" / "examples" / "redirect.yaml")
    rules = example.files["redirect.nft"]
    inbound, outbound = re.findall(r"redirect to :(\d+)", rules)
    assert int(inbound) == port(example.config.inbound[0].listen)
    assert [int(outbound)] == [port(each.listen) for each in example.config.outbound]
    (skipped,) = re.findall(r"elements = \{ (.*?) \}", rules)
    assert {outbound, str(example.ports["mesh-health"])} <= set(skipped.split(", "))
    security = example.sidecar["securityContext"]
    assert f"meta skuid {security['runAsUser']} return" in rules
    assert f"meta skgid {security['runAsGroup']} return" in rules
    assert list(example.init) == ["meshproxy-redirect", "meshproxy"]
    assert example.init["meshproxy-redirect"]["command"][-1].endswith("/redirect.nft")


def test_nft_takes_the_redirect_rules_twice(tmp_path: Path) -> None:
    if reason := namespaces.missing():
        pytest.skip(reason)
    rules = tmp_path / "redirect.nft"
    rules.write_text(Example(ROOT / "k8s" / "examples" / "redirect.yaml").files["redirect.nft"])
    nft, unshare = (shutil.which(tool, path=namespaces.SEARCH) for tool in ("nft", "unshare"))
    assert nft is not None
    assert unshare is not None
    script = '"$0" -f "$1" && "$0" -f "$1" && "$0" list ruleset'
    done = subprocess.run(
        [unshare, "-Urn", "sh", "-c", script, nft, str(rules)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("redirect to") == 2
