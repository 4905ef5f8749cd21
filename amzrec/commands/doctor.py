"""`amzrec doctor`: whether this installation, or a folder, is in order, and what to do about each problem."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from amzrec.answers.scann import avx2
from amzrec.errors import AmzrecError
from amzrec.store.run import RUNS

OLDEST, NEWEST = (3, 11), (3, 13)  # Python versions for which every pinned package has a wheel
SECONDS = 180  # for TensorFlow to be imported on a slow disk
ROOM = 1 << 30  # bytes that a data set of some millions of reviews and its runs need
PINNED = ("tensorflow", "tf-keras", "tensorflow-recommenders", "scann")  # compiled for each other: named one by one
ROOT = Path(__file__).parents[2]  # of the package, or of the checkout
GPU_FILES = ("/proc/driver/nvidia/version", "/dev/nvidia0")  # there where a driver runs

# Runs in a process of its own: a package compiled for another version of TensorFlow may crash it. One line per part.
PROBE = """\
import json
def tell(**facts): print(json.dumps(facts), flush=True)
from amzrec.model.keras2 import import_tensorflow, import_tfrs
tf = import_tensorflow()
tell(tensorflow=tf.__version__, cuda=tf.test.is_built_with_cuda(),
     gpus=[tf.config.experimental.get_device_details(d).get("device_name", d.name)
           for d in tf.config.list_physical_devices("GPU")])
tell(tfrs=import_tfrs().__version__)
from amzrec.answers.scann import without_scann
reason = without_scann()
if reason is None:
    from scann.scann_ops.py import scann_ops
    vectors = tf.eye(16)
    found, _ = scann_ops.builder(vectors, 1, "dot_product").score_brute_force().build().search_batched(vectors)
    assert found.numpy()[:, 0].tolist() == list(range(16))
tell(scann=reason)
"""


@dataclasses.dataclass(frozen=True)
class Check:
    """One part of the installation, or of a folder."""

    name: str
    ok: bool
    found: str
    remedy: str = ""  # what to type or change where it is not ok


def doctor(folder: Path | str | None = None) -> list[Check]:
    """Check this installation, in the order in which problems should be mended; takes about 10 s (TensorFlow).

    With a `folder`, a run, a dataset, an export or an SQLite file of events, check that instead: all of it is read and
    compared with what was written. Raises AmzrecError for a folder that is none of these, and never otherwise.
    """
    if folder is not None:
        from amzrec.store.findings import findings

        return [Check(*finding) for finding in findings(Path(folder))]
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("Python", python),
        ("packages", packages),
        ("Keras", keras),
        ("TensorFlow", tensorflow),
        ("sample", sample),
        ("folders", folders),
    ]
    found: list[Check] = []
    for name, part in parts:
        try:
            found += part()
        except Exception as error:  # a check that fails is a finding, whatever broke it
            found.append(
                Check(name, False, f"{type(error).__name__}: {error}", "install amzrec again: pip install amzrec")
            )
    return found


def python() -> Iterator[Check]:
    """Check the version of Python; also tells the kind of machine."""
    version, this = sys.version_info[:2], f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    allowed = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    yield Check("Python", OLDEST <= version <= NEWEST, this, f"make the environment with Python {allowed}")


def packages() -> Iterator[Check]:
    """Check installed versions against those that amzrec asks for; names the four that are compiled for each other."""
    from packaging.requirements import Requirement

    fit, misfit = [], []
    for text in requirements():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if version and wanted.specifier.contains(version, prereleases=True):
            fit += [f"{wanted.name} {version}"] if wanted.name in PINNED else []
            continue
        asked = f"{wanted.name}{wanted.specifier}"
        found = f"{version}, but {asked} fits the other packages" if version else "not installed"
        misfit.append(Check(wanted.name, False, found, f'pip install "{asked}"'))
    if not misfit:
        yield Check("packages", True, ", ".join(fit))
    yield from misfit


def requirements() -> list[str]:
    """List what amzrec requires, as its installation says, or pyproject.toml where it runs from a checkout."""
    try:
        return list(importlib.metadata.requires("amzrec") or [])
    except importlib.metadata.PackageNotFoundError:
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return list(project["dependencies"])


def keras() -> Iterator[Check]:
    """Check that Keras 2 is behind tf.keras: only a TensorFlow that is loaded already can be wrong about it."""
    from amzrec.model.keras2 import FLAG, import_tensorflow

    if "tensorflow" not in sys.modules:
        yield Check("Keras", True, f"amzrec sets {FLAG}=1 when it imports TensorFlow")
        return
    try:
        import_tensorflow()
        yield Check("Keras", True, "TensorFlow is loaded with Keras 2")
    except AmzrecError as error:
        yield Check("Keras", False, "TensorFlow is loaded with Keras 3", str(error))


def tensorflow() -> Iterator[Check]:
    """Check TensorFlow, the GPU, TensorFlow Recommenders and ScaNN, as a process of its own finds them."""
    facts, problem = probe()
    pins = "their versions must fit together: pip install amzrec again, with constraints.txt from its source"
    yield Check("TensorFlow", "tensorflow" in facts, facts.get("tensorflow", problem), pins)
    if "tensorflow" not in facts:
        return
    yield gpu(facts["gpus"], facts["cuda"])
    yield Check("TensorFlow Recommenders", "tfrs" in facts, str(facts.get("tfrs", problem)).lstrip("v"), pins)
    if "tfrs" not in facts:
        return
    if "scann" not in facts:
        yield Check("ScaNN", False, problem, pins)
    elif facts["scann"] is None:
        yield Check("ScaNN", True, "its index and its TensorFlow operations work")
    elif sys.platform == "linux" and platform.machine() == "x86_64" and avx2():
        yield Check("ScaNN", False, facts["scann"], pins)
    else:
        yield Check("ScaNN", True, f"not used: {facts['scann']}. Everything else works; search is exact")


def gpu(devices: list[str], cuda: bool) -> Check:
    """Check the GPUs that TensorFlow sees; none is a problem only where there is one to see."""
    if devices:
        return Check("GPU", True, f"{len(devices)}: {', '.join(devices)}")
    if not any(Path(file).exists() for file in GPU_FILES):
        return Check("GPU", True, "none: training runs on the CPU")
    why = "its CUDA libraries are missing or do not fit" if cuda else "this TensorFlow is built without CUDA"
    return Check(
        "GPU", False, f"there is an NVIDIA GPU that TensorFlow does not see: {why}", 'pip install "amzrec[gpu]"'
    )


def probe() -> tuple[dict[str, Any], str]:
    """Run PROBE; returns what it told before it ended, and why it ended early ("" where it did not)."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-c", PROBE]  # -P: nothing of the working directory is imported
    try:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {}, f"it was not imported within {SECONDS} seconds"
    facts: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            facts |= json.loads(line)
    if done.returncode < 0:
        return facts, f"the process was killed by signal {-done.returncode} at its import"
    return facts, (done.stderr.strip().splitlines() or ["nothing was said"])[-1] if done.returncode else ""


def sample() -> Iterator[Check]:
    """Check the data that the commands use when no source is named."""
    remedy = "install amzrec again, or name a SOURCE: amzrec train reviews.csv"
    try:
        from amzrec.reviews.sources import sample_folder

        folder = sample_folder()
    except AmzrecError as error:
        yield Check("sample", False, str(error), remedy)
        return
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    whole = (folder / "dataset_spec.pb").is_file() and (folder / "snapshot.metadata").is_file()
    found = f"{size / 1e6:.1f} MB in {folder}" if whole else f"{folder} is not a whole saved dataset"
    yield Check("sample", whole, found, remedy)


def folders() -> Iterator[Check]:
    """Check the places where runs and prepared datasets go."""
    from amzrec.store.folders import cache_folder

    yield writable("runs folder", RUNS, "change to a folder where you may write, or use --run elsewhere")
    yield writable("cache folder", cache_folder(), "set AMZREC_CACHE to a folder where you may write")


def writable(name: str, folder: Path, remedy: str) -> Check:
    """Check that a folder, or the nearest one above it that exists, can be written to; nothing stays there."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.NamedTemporaryFile(dir=there) as file:
            file.write(b"amzrec")
            file.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name, False, f"{folder} cannot be written: {error.strerror or error}", remedy)
    found = f"{folder}, {free / 1e9:,.1f} GB free"
    return Check(name, free >= ROOM, found, f"free at least {ROOM / 1e9:.0f} GB there, or {remedy}")
