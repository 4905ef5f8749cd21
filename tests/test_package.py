"""What is shipped: the wheel with the sample inside, pins that fit, a sample that the notebook can load."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import sbom
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    name.lower().replace("_", "-"): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
}


def test_the_pins_satisfy_every_requirement() -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        pinned = PINS[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(pinned), f"{requirement} is pinned to {pinned}"


def test_the_pins_are_the_set_in_which_tensorflow_recommenders_works() -> None:
    found = {name: PINS[name] for name in ("tensorflow", "tf-keras", "scann", "tensorflow-recommenders")}
    assert {name: version.rsplit(".", 1)[0] for name, version in found.items()} == {
        "tensorflow": "2.20",
        "tf-keras": "2.20",
        "scann": "1.4",
        "tensorflow-recommenders": "0.7",
    }


def test_every_direct_dependency_has_a_reason_and_no_other_has() -> None:
    rows = re.findall(
        r"^\| ([\w-]+) \|(?: ([\w.-]+) \|)? ([^|]+) \|$", (ROOT / "docs" / "dependencies.md").read_text(), re.M
    )
    reasons = {
        (extra if package else "", package or extra) for extra, package, _ in rows if extra not in ("package", "extra")
    }
    wanted = {("", Requirement(text).name) for text in PROJECT["dependencies"]}
    optional = {
        (extra, Requirement(text).name) for extra, texts in PROJECT["optional-dependencies"].items() for text in texts
    }
    others = {name for extra, name in optional if extra != "dev"}
    again = {("dev", name) for name in others - {"tensorflow"}}
    assert reasons == wanted | (optional - again)
    assert all(reason.strip() for *_, reason in rows)


def test_the_bill_of_materials_names_all_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Package:
        """An installed package."""

        def __init__(self, version: str, *requires: str) -> None:
            self.version, self.requires = version, list(requires)
            self.metadata = Message()
            self.metadata["License-Expression"] = "MIT"

    there = {
        "amzrec": Package(
            "1", "a", 'b[fast]; extra == "serve"', 'c; extra == "bench"', "far; sys_platform == 'nowhere'"
        ),
        "a": Package("2", "B_x"),
        "b": Package("3", 'd; extra == "fast"'),
        "b-x": Package("4", "a"),
        "d": Package("5"),
    }
    monkeypatch.setattr(sbom, "distribution", there.__getitem__)
    document = sbom.bill(frozenset({"serve"}))
    assert [part["purl"] for part in document["components"]] == [
        "pkg:pypi/a@2", "pkg:pypi/b@3", "pkg:pypi/b-x@4", "pkg:pypi/d@5",
    ]  # fmt: skip
    follows = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert follows["pkg:pypi/amzrec@1"] == ["pkg:pypi/a@2", "pkg:pypi/b@3"]
    assert follows["pkg:pypi/b@3"] == ["pkg:pypi/d@5"]
    assert follows["pkg:pypi/b-x@4"] == ["pkg:pypi/a@2"]
    assert document == sbom.bill(frozenset({"serve"}))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")


def test_the_constraints_hold_versions_and_no_addresses() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in lines)


def test_the_licence_and_the_description_are_there() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert (ROOT / PROJECT["license-files"][0]).read_text().lstrip().startswith("Apache License")
    assert "END OF TERMS AND CONDITIONS" in (ROOT / "LICENSE").read_text()
    assert {"description", "readme", "authors", "keywords", "classifiers"} <= PROJECT.keys()


def test_the_classifiers_name_every_python_that_is_allowed_and_no_other() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert named == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed]


def test_gitignore_hides_no_data_inside_the_package() -> None:
    paths = ["amzrec/data/x", "data/sample/x", "amzrec/runs/x", "amzrec/build/x"]
    done = subprocess.run(["git", "check-ignore", *paths], capture_output=True, text=True, cwd=ROOT)
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert done.stdout == ""


def test_the_sample_loads_with_a_plain_load_because_it_is_saved_uncompressed() -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.load(str(ROOT / "data" / "sample"))
    assert set(next(iter(dataset))) == {"data"}


@pytest.mark.slow
def test_the_wheel_carries_the_page_and_the_sample_and_finds_it(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(build, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    facts = next((tmp_path / "site").glob("*.dist-info"))
    assert "License-Expression: Apache-2.0" in (facts / "METADATA").read_text()
    assert (facts / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (tmp_path / "site" / "amzrec" / "py.typed").is_file()
    code = "import amzrec, amzrec.reviews.sources as s; print(amzrec.__file__); print(s.sample_folder())"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    module, folder = (Path(line) for line in found.stdout.splitlines())
    assert module == tmp_path / "site" / "amzrec" / "__init__.py", found.stderr
    assert folder == tmp_path / "site" / "amzrec" / "data" / "sample"
    for file in (ROOT / "amzrec" / "page" / "files").iterdir():
        assert (tmp_path / "site" / "amzrec" / "page" / "files" / file.name).read_bytes() == file.read_bytes()
    kept = ROOT / "data" / "sample"
    for file in (path for path in kept.rglob("*") if path.is_file()):
        assert (folder / file.relative_to(kept)).read_bytes() == file.read_bytes()
