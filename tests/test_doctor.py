"""Each problem of an installation is found, named, and comes with its remedy."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from amzrec.answers.scann import avx2
from amzrec.commands import doctor as doctor_module
from amzrec.commands.doctor import doctor

FACTS = {"tensorflow": "2.20.0", "cuda": False, "gpus": [], "tfrs": "v0.7.7", "scann": None}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Checks that need no TensorFlow: a process that found everything in order, changed by the test."""

    def answer(problem: Any = "", without: Any = (), **changes: Any) -> None:
        facts = {n: v for n, v in (FACTS | changes).items() if n not in without}
        monkeypatch.setattr(doctor_module, "probe", lambda: (facts, problem))

    answer()
    return answer


def named(name: Any) -> Any:
    found = [check for check in doctor() if check.name == name]
    assert len(found) == 1
    return found[0]


def problems() -> Any:
    return {check.name: check for check in doctor() if not check.ok}


@pytest.mark.slow
def test_this_installation_is_well() -> None:
    found = doctor()
    assert [check for check in found if not check.ok and check.name != "GPU"] == []
    assert [check.name for check in found] == [
        "Python",
        "packages",
        "Keras",
        "TensorFlow",
        "GPU",
        "TensorFlow Recommenders",
        "ScaNN",
        "sample",
        "runs folder",
        "cache folder",
    ]
    assert "tensorflow 2.20" in found[1].found


def test_a_version_that_does_not_fit_is_named_with_the_one_that_does(
    monkeypatch: pytest.MonkeyPatch, quick: Any
) -> None:
    installed = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "2.21.0" if name == "tensorflow" else installed(name)
    )
    found = problems()
    assert list(found) == ["tensorflow"]
    assert "2.21.0" in found["tensorflow"].found
    assert found["tensorflow"].remedy == 'pip install "tensorflow~=2.20.0"'


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, quick: Any) -> None:
    installed = importlib.metadata.version

    def version(name: Any) -> Any:
        if name == "typer":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert problems()["typer"].found == "not installed"


def test_requirements_of_other_platforms_and_extras_do_not_count(monkeypatch: pytest.MonkeyPatch, quick: Any) -> None:
    wanted = ["nothing-such>=1; sys_platform == 'win99'", "nothing-such>=1; extra == 'dev'"]
    monkeypatch.setattr(doctor_module, "requirements", lambda: wanted)
    assert problems() == {}


def test_an_old_python_is_a_problem(monkeypatch: pytest.MonkeyPatch, quick: Any) -> None:
    monkeypatch.setattr(doctor_module, "OLDEST", (3, 99))
    assert "3.99" in problems()["Python"].remedy


def test_a_crash_at_the_import_of_tensorflow_recommenders_is_a_finding(quick: Any) -> None:
    quick("the process was killed by signal 11 at its import", without=("tfrs", "scann"))
    found = problems()
    assert list(found) == ["TensorFlow Recommenders"]
    assert "signal 11" in found["TensorFlow Recommenders"].found
    assert "constraints.txt" in found["TensorFlow Recommenders"].remedy


def test_a_crash_of_the_process_does_not_reach_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'print(\'{"tensorflow": "9"}\', flush=True)\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)'
    monkeypatch.setattr(doctor_module, "PROBE", code)
    assert doctor_module.probe() == ({"tensorflow": "9"}, "the process was killed by signal 11 at its import")


def test_a_process_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "PROBE", "import time\ntime.sleep(60)")
    monkeypatch.setattr(doctor_module, "SECONDS", 0.2)
    facts, problem = doctor_module.probe()
    assert facts == {}
    assert "not imported within" in problem


def test_no_gpu_is_fine_but_one_that_tensorflow_does_not_see_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, quick: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor_module, "GPU_FILES", (str(tmp_path / "driver"),))
    assert named("GPU").ok
    (tmp_path / "driver").write_text("1")
    assert "amzrec[gpu]" in problems()["GPU"].remedy
    quick(gpus=["Accelerator 9000"])
    assert "Accelerator 9000" in named("GPU").found


def test_without_scann_everything_else_works_where_it_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, quick: Any
) -> None:
    quick(scann="it needs AVX2")
    assert list(problems()) == (["ScaNN"] if avx2() else [])
    monkeypatch.setattr(doctor_module, "avx2", lambda: False)
    assert named("ScaNN").ok
    assert "exact" in named("ScaNN").found


def test_a_missing_sample_is_a_problem(monkeypatch: pytest.MonkeyPatch, quick: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("amzrec.reviews.sources.sample_folder", lambda: tmp_path)
    assert "name a SOURCE" in problems()["sample"].remedy


def test_a_file_where_the_cache_should_be_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, quick: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "file"))
    assert "AMZREC_CACHE" in problems()["cache folder"].remedy


def test_looking_for_room_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, quick: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "a" / "b"))
    assert problems() == {}
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_a_problem(monkeypatch: pytest.MonkeyPatch, quick: Any) -> None:
    monkeypatch.setattr(doctor_module, "ROOM", 1 << 60)
    assert set(problems()) == {"runs folder", "cache folder"}


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, quick: Any) -> None:
    def broken() -> None:
        raise RuntimeError("no metadata")

    monkeypatch.setattr(doctor_module, "requirements", broken)
    assert "no metadata" in problems()["packages"].found
    assert named("sample").ok


@pytest.mark.long
def test_tensorflow_imported_before_without_the_legacy_flag_is_found_and_refused_with_the_remedy() -> None:
    code = """
import os
os.environ.pop("TF_USE_LEGACY_KERAS", None)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow
from amzrec import errors
from amzrec.commands import doctor as module
from amzrec.model import keras2
check, = module.keras()
assert not check.ok and "Restart Python" in check.remedy, check
try:
    keras2.import_tfrs()
except errors.AmzrecError as error:
    assert 'os.environ["TF_USE_LEGACY_KERAS"] = "1"' in str(error)
else:
    raise SystemExit("not refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=doctor_home())
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_amzrec_sets_the_legacy_flag_itself_and_hides_scann_from_processors_that_it_would_crash() -> None:
    code = """
import os
os.environ.pop("TF_USE_LEGACY_KERAS", None)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "1"
from amzrec.model import keras2
from amzrec.model.keras2 import import_tfrs, import_tensorflow
keras2.avx2 = lambda: False
assert import_tfrs().__version__ == "v0.7.7"
import sys
assert "scann" not in sys.modules
assert not hasattr(import_tensorflow().keras, "version")
assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=doctor_home())
    assert done.returncode == 0, done.stderr


def doctor_home() -> Any:
    return Path(doctor_module.__file__).parent.parent
