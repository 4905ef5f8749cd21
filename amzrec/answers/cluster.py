"""Recommendations for everyone on Spark: each of its tasks answers some customers and writes one Parquet file."""

from __future__ import annotations

import functools
import math
import re
import secrets
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amzrec.answers.parts import Part, Work, write_part
from amzrec.errors import AmzrecError, Progress
from amzrec.store.vectors import VECTORS

PLACES = ("shared", "sent")  # where the tasks find the vectors
PER_CORE = 4  # tasks per core of the cluster, so that a slow one keeps nobody waiting long
BLOCKS = 50  # most blocks of customers in one task: what is lost with a machine
PATIENCE = 60.0  # seconds without a task at work after which we say so
SAID = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception)): (.+)$", re.MULTILINE)  # at the end of a traceback


def parts_of(starts: range, cores: int) -> list[Part]:
    """Cut the blocks of customers that begin at these rows into parts of about the same size."""
    blocks = len(starts)
    count = max(1, min(blocks, max(PER_CORE * cores, math.ceil(blocks / BLOCKS))))
    edges = [number * blocks // count for number in range(count + 1)]
    return [Part(f"part-{n:05}.parquet", starts[edges[n] : edges[n + 1]]) for n in range(count)]


@contextmanager
def opened(scratch: Path, master: str | None) -> Iterator[Cluster]:
    """Open a Spark session for the block, with `scratch` for its files; AmzrecError where it cannot do the work."""
    from amzrec.reviews.engines import spark

    session, owned = spark.start(scratch, master)
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield Cluster(session, owned, scratch)
    except (PySparkException, Py4JError) as error:
        raise AmzrecError(f"Spark could not recommend: {reason(error)}") from error
    finally:
        if owned:
            with suppress(PySparkException, Py4JError):
                session.stop()


def reason(error: Exception) -> str:
    """Say in one line why a job failed: what Python raised on a machine of the cluster, else what Spark says."""
    from amzrec.reviews.engines.spark.session import first_line

    raised = SAID.findall(str(error))
    kind, text = next((found for found in raised if found[0] == "AmzrecError"), raised[-1] if raised else ("", ""))
    if kind == "AmzrecError":
        return str(text)
    if kind == "ModuleNotFoundError":
        return f"{text} on its machines: the Python there (PYSPARK_PYTHON) must have numpy and pyarrow"
    return f"{kind}: {text}" if kind else first_line(error)


class Cluster:
    """A Spark session at work on recommendations."""

    def __init__(self, session: Any, owned: bool, scratch: Path) -> None:
        self.context = session.sparkContext
        self.owned = owned  # whether the session ends with the work
        self.scratch = scratch
        self.name = f"amzrec-{secrets.token_hex(4)}"

    @property
    def cores(self) -> int:
        """How many tasks the cluster can run at once, as far as it is known yet."""
        return int(self.context.defaultParallelism)

    def send_code(self, folder: Path) -> None:
        """Let the tasks import this amzrec: their Python needs numpy and pyarrow only.

        The file stays in `folder`, where Spark fetches it for machines that join later.
        """
        package = Path(__file__).parents[1]
        texts = {str(file.relative_to(package.parent)): file.read_bytes() for file in sorted(package.rglob("*.py"))}
        crc = functools.reduce(lambda crc, text: zlib.crc32(text, crc), texts.values(), 0)
        file = folder / f"amzrec-{crc:08x}.zip"
        if not file.is_file():
            with zipfile.ZipFile(self.scratch / file.name, "w", zipfile.ZIP_DEFLATED) as archive:
                for path, text in texts.items():
                    archive.writestr(path, text)
            folder.mkdir(exist_ok=True)
            (self.scratch / file.name).replace(file)
        self.context.addPyFile(str(file))

    def send_vectors(self, run: Path) -> str:
        """Let Spark unpack the vectors of a run on each machine, and return the name under which it has them."""
        if not self.owned:
            raise AmzrecError(
                "--vectors sent needs a Spark session of its own, and this process has one already, which would keep "
                "the vectors until it ends: stop it first, or put the run where every machine sees it"
            )
        archive = self.scratch / f"{self.name}.tar"
        with tarfile.open(archive, "w", dereference=True) as tar:
            tar.add(run / VECTORS, VECTORS)
        self.context.addArchive(f"{archive}#{self.name}")
        return self.name

    def write(self, work: Work, parts: list[Part], customers: int, progress: Progress) -> int:
        """Let the tasks write all parts, and count the rows; AmzrecError where one of them cannot."""
        done = self.context.accumulator(0)
        task = functools.partial(write_part, work, done)

        def job() -> list[int]:
            self.context.setJobGroup(self.name, "amzrec recommend --all")
            rows: list[int] = self.context.parallelize(parts, len(parts)).map(task).collect()
            return rows

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(job)
            try:
                self.watch(running, done, customers, progress)
            except BaseException:
                self.context.cancelJobGroup(self.name)
                raise
        missing = [part.name for part in parts if not (work.out / part.name).is_file()]
        if missing:
            raise AmzrecError(
                f"{len(missing)} of {len(parts)} files that the cluster wrote to {work.out.parent} are not there on "
                "this machine: --out must stand where every machine sees it under the same path"
            )
        for left in work.out.glob(".*"):  # of tasks that were killed
            left.unlink()
        return sum(running.result())

    def watch(self, running: Future[Any], done: Any, customers: int, progress: Progress) -> None:
        """Show progress until the job ends, and say so when no machine takes it up; raises what the job raised."""
        shown, idle_since = 0, time.monotonic()
        while wait([running], timeout=0.5).not_done:
            if done.value > shown:
                shown = done.value
                progress.step("customers", min(shown, customers), customers)  # a task that ran twice counts twice
            if self.at_work():
                idle_since = math.inf
            elif time.monotonic() - idle_since > PATIENCE:
                progress.say(
                    "no machine of the cluster has taken up the work yet: it has no free cores or memory, or cannot "
                    "reach this machine (spark.driver.host)"
                )
                idle_since = math.inf
        running.result()
        progress.step("customers", customers, customers)

    def at_work(self) -> bool:
        """Tell whether a task of this session runs, or has run, in the stage that is computed now."""
        tracker = self.context.statusTracker()
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        return any(stage is not None and (stage.numActiveTasks or stage.numCompletedTasks) for stage in stages)
