"""What serving/ says is true of amzrec: commands, ports, probes, names, and the schemas of Compose and Kubernetes."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.resources
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

import servers
from amzrec import __version__
from amzrec.cli.app import app
from amzrec.commands import serve as serve_module
from amzrec.commands.recommend import recommend
from amzrec.config import ServeConfig
from amzrec.service.events import EventStore
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from conftest import ROOT
from runs import random_vectors, write_run
from services import served, started

SERVING = ROOT / "serving"
MANIFESTS = [
    (path.name, document)
    for path in sorted((SERVING / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
COMPOSE = yaml.safe_load((SERVING / "compose.yaml").read_text())
CONTAINERFILE = (SERVING / "Containerfile").read_text()
KUBERNETES = "1.34"  # whose schemas are compared


def instruction(name: str) -> list[str]:
    """What stands behind each instruction of this name in the Containerfile."""
    return re.findall(rf"^{name} (.*)$", CONTAINERFILE.replace("\\\n", " "), re.MULTILINE)


def named(kind: str, name: str) -> Any:
    """The object of Kubernetes of this kind and name."""
    (found,) = (each for _, each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def containers() -> Iterator[tuple[str, Any, Any]]:
    """The containers of all pods, with where they stand and their pod."""
    for file, each in MANIFESTS:
        if "template" in each["spec"]:
            pod = each["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield f"{file}: {container['name']}", container, pod


SERVICE_POD = named("Deployment", "amzrec")["spec"]["template"]["spec"]
SERVICE = SERVICE_POD["containers"][0]
COMMANDS = {
    "Containerfile": json.loads(instruction("CMD")[0]),
    "compose.yaml": COMPOSE["services"]["amzrec"]["command"],
    "service.yaml": SERVICE["args"],
}


@pytest.fixture(scope="module")
def run(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with random vectors."""
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(4))
    return write_run(tmp_path_factory.mktemp("serving") / "run", dataset, vectors)


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ServeConfig]:
    """The run and the settings that `amzrec` takes from a command."""
    asked: list[Any] = []
    monkeypatch.setattr(serve_module, "serve", lambda run, config, progress: asked.append((run, config)))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return Path(asked[0][0]), asked[0][1]


@pytest.mark.parametrize("where", COMMANDS)
def test_each_command_is_one_of_amzrec_that_others_reach_on_the_port_that_is_published(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMZREC_TOKEN", "secret")
    folder, config = parsed(COMMANDS[where], monkeypatch)
    assert folder == Path("/runs/joint")
    assert (config.host, config.port, config.token) == ("0.0.0.0", 8501, "secret")
    assert config.events == "none" or config.events.startswith("postgresql://amzrec@")


def test_a_command_with_a_flag_that_amzrec_does_not_have_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="watches"):
        parsed([*COMMANDS["service.yaml"], "--watches"], monkeypatch)


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_of_the_service_are_answered_without_the_token(run: Run, probe: str) -> None:
    with served(run.path, ServeConfig(events="none", token="secret")) as client:
        path = SERVICE[probe]["httpGet"]["path"]
        assert client.get(path, headers={"Authorization": ""}).status_code == 200
        assert client.get("/run", headers={"Authorization": ""}).status_code == 401
        figures = named("Deployment", "amzrec")["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]
        assert client.get(figures).status_code == 200


def test_a_service_that_is_told_to_stop_is_given_the_time_to_answer() -> None:
    assert SERVICE_POD["terminationGracePeriodSeconds"] > serve_module.STOP + int(
        SERVICE["lifecycle"]["preStop"]["exec"]["command"][1]
    )
    assert int(COMPOSE["services"]["amzrec"]["stop_grace_period"].removesuffix("s")) > serve_module.STOP


def test_the_healthcheck_and_the_client_work_with_a_service(run: Run) -> None:
    check = json.loads(instruction("HEALTHCHECK")[0].partition("CMD ")[2])
    process, address = started(run.path, "--events", "none")
    try:
        port = address.rpartition(":")[2]
        assert check[:2] == ["python", "-c"]
        assert "127.0.0.1:8501" in check[2]
        for place, code in ((f"127.0.0.1:{port}", 0), (f"127.0.0.1:{servers.free_port()}", 1)):
            command = [sys.executable, "-c", check[2].replace("127.0.0.1:8501", place)]
            assert subprocess.run(command, capture_output=True, timeout=60).returncode == code
        client = [sys.executable, str(SERVING / "client.py"), address, "u00", "somebody new"]
        printed = subprocess.run(client, capture_output=True, text=True, timeout=60, check=True).stdout
    finally:
        process.terminate()
        process.wait(timeout=60)
    titles = [
        [entry["title"] for entry in recommend(customer, run, k=5)["recommendations"]]
        for customer in ("u00", "somebody new")
    ]
    assert printed == f"u00 {titles[0]}\nsomebody new {titles[1]}\n"


def test_events_are_kept_with_the_password_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.postgresql() as url:
        monkeypatch.setenv("PGPASSWORD", servers.PASSWORD)
        with_password = url.partition("://")[2].partition("@")[0]
        EventStore.open(url.replace(with_password, with_password.partition(":")[0])).close()
        monkeypatch.setenv("PGPASSWORD", "another")
        with pytest.raises(Exception, match="password"):
            EventStore.open(url.replace(with_password, with_password.partition(":")[0]))


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody_in_particular() -> None:
    sources = [word for line in instruction("COPY") if "--from" not in line for word in line.split()[:-1]]
    assert {"constraints.txt", "amzrec", "pyproject.toml"} < set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    user = instruction("USER")[-1].partition(":")[0]
    assert instruction("RUN")[-1].split()[:3] == ["useradd", "--uid", user]
    assert str(SERVICE_POD["securityContext"]["runAsUser"]) == user
    assert instruction("EXPOSE") == ["8501"]
    packages = {path.split("/")[0] for path in sources if path in ("amzrec", "data/sample")}
    assert packages == {"amzrec", "data"}, "what the wheel is made of: see force-include in pyproject.toml"


def canonical(name: str) -> str:
    """A name of a distribution as all are compared."""
    return re.sub("[-_.]+", "-", name).lower()


def wanted_by(name: str) -> list[str]:
    """What a distribution requires; nothing for one that is not here, without which the service works as well."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        assert name in {"httptools", "uvloop"}, f"{name} is not installed"
        return []


def needed(names: set[str]) -> set[str]:
    """The distributions that are installed with these."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = canonical(waiting.pop())
        if name not in found:
            found.add(name)
            for line in wanted_by(name):
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    waiting.append(requirement.name)
    return found


ONLY = """\
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(f"{{name}} is not in the image", name=name)

sys.meta_path.insert(0, Refuse())
"""


def test_the_service_needs_no_package_that_the_image_lacks(run: Run, tmp_path: Path) -> None:
    lines = (SERVING / "requirements.txt").read_text().splitlines()
    listed = {canonical(line) for line in lines if not line.startswith("#")}
    pinned = {canonical(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert listed <= pinned
    held = needed(listed) | {"amzrec"}
    owners = importlib.metadata.packages_distributions()
    refused = {module for module, names in owners.items() if not held & {canonical(name) for name in names}}
    assert {"tensorflow", "pandas", "ibis", "httpx"} <= refused
    (tmp_path / "sitecustomize.py").write_text(ONLY.format(refused=refused))
    with servers.postgresql() as url:
        process, address = started(run.path, "--events", url, paths=f"{tmp_path}{os.pathsep}{ROOT}")
        try:
            for route, body in (
                ("recommend", {"liked": ["p02"]}),
                ("rate", {"products": ["p01"]}),
                ("explain", {"product": "p01"}),
                ("events", {"product_id": "p01"}),
            ):
                text = json.dumps({"customer_id": "u00"} | body).encode()
                asked = urllib.request.Request(f"{address}/{route}", text, {"Content-Type": "application/json"})
                assert json.load(urllib.request.urlopen(asked, timeout=30))
            for route in ("products?q=Product", "metrics", "openapi.json", "readyz", "run", "customers/u00"):
                assert urllib.request.urlopen(f"{address}/{route}", timeout=30).read()
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_the_compose_file_fits_its_schema_and_its_services_fit_each_other() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs the extra dev")
    pytest.importorskip("check_jsonschema", reason="needs the extra dev")
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    check = jsonschema.Draft202012Validator(json.loads((folder / "compose-spec.json").read_text()))
    assert [error.message for error in check.iter_errors(COMPOSE)] == []
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["amzrec"]["comand"] = wrong["services"]["amzrec"].pop("command")
    assert not check.is_valid(wrong), "a misspelled key is noticed"

    service, events = COMPOSE["services"]["amzrec"], COMPOSE["services"]["events"]
    assert (SERVING / service["build"]["context"] / service["build"]["dockerfile"]).samefile(SERVING / "Containerfile")
    assert f"--events=postgresql://{events['environment']['POSTGRES_USER']}@events/amzrec" in service["command"]
    assert events["environment"]["POSTGRES_DB"] == "amzrec"
    assert events["environment"]["POSTGRES_PASSWORD"] == service["environment"]["PGPASSWORD"]
    assert set(service["depends_on"]) == {"events"} <= set(COMPOSE["services"])
    assert service["volumes"][0]["target"] == "/runs"
    assert COMPOSE["services"]["tensorflow-serving"]["volumes"][0]["target"] == "/models/amzrec/1"


@pytest.mark.parametrize(("file", "manifest"), MANIFESTS, ids=[f"{n}-{m['kind']}" for n, m in MANIFESTS])
def test_manifests_fit_the_schema_of_kubernetes(file: str, manifest: Any) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs the extra dev").validate
    validate(manifest, KUBERNETES, strict=True)
    wrong = copy.deepcopy(manifest)
    wrong["spec"]["portz"] = []
    with pytest.raises(Exception, match="portz"):
        validate(wrong, KUBERNETES, strict=True)


def test_the_objects_of_kubernetes_fit_each_other() -> None:
    for _, each in MANIFESTS:
        spec = each["spec"]
        if "template" in spec:
            assert spec["template"]["metadata"]["labels"].items() >= spec["selector"]["matchLabels"].items()
        if each["kind"] == "Service":
            (pod,) = (
                other["spec"]["template"]
                for _, other in MANIFESTS
                if "template" in other["spec"] and other["spec"]["template"]["metadata"]["labels"] == spec["selector"]
            )
            ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"]: port["port"] for port in spec["ports"]} == ports
    for where, container, pod in containers():
        assert pod["securityContext"]["runAsNonRoot"], where
        assert not container["securityContext"]["allowPrivilegeEscalation"], where
        assert "limits" in container["resources"], where
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["name"] == "amzrec"
                assert f"--from-literal={reference['key']}=" in (SERVING / "kubernetes" / "service.yaml").read_text()
        for volume in pod.get("volumes", []):
            assert named("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
    assert SERVICE["image"] == f"amzrec:{__version__}"
    host = shlex.split(" ".join(SERVICE["args"]))[-1].partition("@")[2].partition("/")[0]
    assert named("Service", host)["spec"]["ports"][0]["port"] == 5432


def test_tensorflow_serving_is_the_release_of_the_tensorflow_that_exports() -> None:
    pinned = re.search(r"^tensorflow==(\d+\.\d+)\.", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    images = [container["image"] for _, container, _ in containers() if "tensorflow" in container["image"]]
    images.append(COMPOSE["services"]["tensorflow-serving"]["image"])
    assert pinned
    assert {image.rpartition(":")[2].rpartition(".")[0] for image in images} == {pinned[1]}
    arguments = named("Deployment", "amzrec-tensorflow")["spec"]["template"]["spec"]["containers"][0]
    assert "--model_name=amzrec" in arguments["args"], "the name in the address of amzrec serve"
    assert "/v1/models/amzrec" in arguments["readinessProbe"]["httpGet"]["path"]
