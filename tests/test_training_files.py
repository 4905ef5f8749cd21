"""What serving/training/ says is true: schemas, the cluster that each file makes, the words of amzrec train."""

from __future__ import annotations

import copy
import json
import os
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from amzrec.commands import train as train_module
from amzrec.training.cluster import Worker, worker_of
from conftest import ROOT

FILES = ROOT / "serving" / "training"
MANIFESTS = list(yaml.safe_load_all((FILES / "kubernetes.yaml").read_text()))
SERVICE, JOB = MANIFESTS
POD = JOB["spec"]["template"]["spec"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: each["kind"])
def test_manifests_of_a_training_obey_the_schemas_of_kubernetes(manifest: Any) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs the extra dev").validate
    validate(manifest, "1.34", strict=True)
    wrong = copy.deepcopy(manifest)
    wrong["spec"]["portz"] = []
    with pytest.raises(Exception, match="portz"):
        validate(wrong, "1.34", strict=True)


def test_the_pods_of_a_job_find_each_other_by_the_names_in_tf_config() -> None:
    """An indexed Job calls its pods NAME-INDEX, and the headless service of their subdomain gives them names."""
    name, number = JOB["metadata"]["name"], JOB["spec"]["completions"]
    assert JOB["spec"]["parallelism"] == number, "all must run at once"
    assert POD["subdomain"] == SERVICE["metadata"]["name"]
    assert SERVICE["spec"]["selector"].items() <= JOB["spec"]["template"]["metadata"]["labels"].items()
    (container,) = POD["containers"]
    text = next(each["value"] for each in container["env"] if each["name"] == "TF_CONFIG")
    port = container["ports"][0]["containerPort"]
    for index in range(number):
        config = text.replace("$(NUMBER)", str(index))
        assert worker_of("multi-worker", {"TF_CONFIG": config}) == Worker(index, number)
        assert json.loads(config)["cluster"]["worker"][index] == f"{name}-{index}.{POD['subdomain']}:{port}"


def test_the_words_in_the_manifest_are_those_of_amzrec_train(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from amzrec.cli.app import app

    asked: dict[str, Any] = {}

    def stands_in(source: Any, run: Any, config: Any, **choices: Any) -> None:
        asked.update(choices, source=source, run=run)
        raise SystemExit(0)

    monkeypatch.setattr(train_module, "train", stands_in)
    (container,) = POD["containers"]
    assert CliRunner().invoke(app, container["args"]).exit_code == 0
    assert (asked["strategy"], asked["resume"], asked["run"]) == ("multi-worker", True, Path("/data/runs/joint"))


def test_the_slurm_script_gives_each_task_its_place_in_the_cluster(tmp_path: Path) -> None:
    """The script as it is, with a scontrol that names two hosts and an srun that starts two tasks here."""
    programs = {
        "scontrol": 'echo "$3" | tr , "\\n"',
        "srun": 'shift; for n in 0 1; do SLURM_PROCID=$n "$@" || exit; done',
        "amzrec": 'echo "$TF_CONFIG"; echo "$@"',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "20007", "SLURM_JOB_NODELIST": "one,two", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(FILES / "slurm.sh"), "a dataset", "--run", "runs/joint"]
    done = subprocess.run(command, env=os.environ | slurm, capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    for index in range(2):
        config = json.loads(lines[2 * index])
        assert config["cluster"] == {"worker": ["one:20007", "two:20008"]}
        assert worker_of("auto", {"TF_CONFIG": lines[2 * index]}) == Worker(index, 2)
        assert lines[2 * index + 1] == "train a dataset --run runs/joint --strategy multi-worker --resume"


def test_the_ray_script_starts_a_worker_at_each_address_and_all_again_where_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The script as it is, with a stand-in for Ray that calls methods at once, and an amzrec that fails once."""
    ray: Any = types.ModuleType("ray")
    killed: list[Any] = []

    class Method:
        def __init__(self, method: Any) -> None:
            self.remote = method

    class Actor:
        def __init__(self, of: type) -> None:
            self.of = of

        def options(self, **_: Any) -> Actor:
            return self

        def remote(self) -> Any:
            actor = self.of()
            return types.SimpleNamespace(address=Method(actor.address), train=Method(actor.train))

    ray.remote, ray.get, ray.kill = (lambda **_: Actor), (lambda found: found), killed.append
    ray.init = lambda address: None
    ray.util = types.SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
    ray.exceptions = types.SimpleNamespace(RayActorError=RuntimeError)
    monkeypatch.setitem(sys.modules, "ray", ray)
    amzrec, log = tmp_path / "amzrec", tmp_path / "log"
    amzrec.write_text(f'#!/bin/bash\necho "$TF_CONFIG" >> {log}; [ $(wc -l < {log}) -gt 2 ]\n')
    amzrec.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["ray_train.py", "dataset"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FILES / "ray_train.py"), run_name="__main__")
    assert ended.value.code == 0
    found = [worker_of("auto", {"TF_CONFIG": line}) for line in log.read_text().splitlines()]
    assert found == [Worker(0, 2), Worker(1, 2)] * 2
    assert len(killed) == 4
