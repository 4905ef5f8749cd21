"""The Spark session: the one of this process, or a new one as Spark is set up."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from amzrec.errors import AmzrecError

# Any of these says that somebody set up Spark, who then decides where it runs
SET_UP = ("SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "MASTER")
# Of a session on this machine only, where nobody set up Spark; a cluster has its own spark-defaults.conf
LOCAL = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "32",
}
# Of our own session, which shares nothing but the machines with others: expressions then mean what they do on DuckDB
SETTINGS = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.caseSensitive": "true",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.session.timeZone": "UTC",
}
ANSWERS = 5.0  # seconds in which a master must


def start(scratch: Path, master: str | None) -> tuple[SparkSession, bool]:
    """Return a session with SETTINGS, and whether it is ours to stop: that of this process is not.

    A new one runs on `master`. Without it, Spark's own settings decide (SPARK_HOME, spark-defaults.conf,
    spark-submit), else all cores of this machine. Raises AmzrecError where Spark does not start.
    """
    before = SparkSession.getActiveSession()
    try:
        session = (before or new_session(scratch, master)).newSession()
    except (PySparkException, Py4JError, OSError) as error:
        raise AmzrecError(
            f"Spark did not start{f' on {master}' if master else ''} ({first_line(error)}). It needs Java 17 or 21 "
            "(JAVA_HOME, or java on the PATH), and --spark-master local[*] or the address of a cluster that runs"
        ) from error
    for name, value in SETTINGS.items():
        session.conf.set(name, value)
    return session, before is None


def new_session(scratch: Path, master: str | None) -> SparkSession:
    """Start Spark; what Java says goes to a file in `scratch`, so that the terminal stays ours."""
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java") and not (home and (Path(home) / "bin" / "java").is_file()):
        raise AmzrecError(
            "--engine spark needs Java 17 or 21, and there is none: install one (Debian, Ubuntu: apt-get install "
            "openjdk-17-jre-headless), or set JAVA_HOME; without --engine spark none is needed"
        )
    if master is None and not any(os.environ.get(name) for name in SET_UP):
        master = "local[*]"
    need_master(master or "")
    builder = SparkSession.builder.appName("amzrec").config("spark.log.level", "ERROR")
    if master:
        builder = builder.master(master)
    if master and master.startswith("local"):
        memory = min(3 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        for name, value in (LOCAL | {"spark.driver.memory": f"{memory >> 20}m"}).items():
            builder = builder.config(name, value)
        builder = builder.config("spark.local.dir", str((scratch / "spill").absolute()))
    here = (master or "").startswith("local") and "PYSPARK_PYTHON" not in os.environ
    if here:  # else Spark takes the first python3 on the PATH for its tasks
        os.environ["PYSPARK_PYTHON"] = sys.executable
    try:
        with standard_error_in(scratch / "spark.log"), same_interrupts():
            return builder.getOrCreate()
    finally:
        if here:
            del os.environ["PYSPARK_PYTHON"]


@contextlib.contextmanager
def same_interrupts() -> Iterator[None]:
    """Let Ctrl-C be heard as before, for a block in which Spark starts.

    pyspark puts a handler of its own in the place, and leaves it there when Spark has ended; what trains after that
    could not wait for the end of a step.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # signals are for the main thread, where pyspark leaves them alone too
            signal.signal(signal.SIGINT, before)


def need_master(master: str) -> None:
    """Raise AmzrecError where nobody listens at any address of spark://host:port,host:port.

    Spark itself would try for a minute, and then say that its context was stopped.
    """
    if not master.startswith("spark://"):
        return
    failures = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWERS).close()
            return
        except (OSError, ValueError) as error:
            failures.append(f"{address}: {getattr(error, 'strerror', None) or error}")
    raise AmzrecError(
        f"no Spark master answers at {master} ({'; '.join(failures)}): start it, or give the address that it shows as "
        "--spark-master spark://host:7077; local[*] needs none"
    )


@contextlib.contextmanager
def standard_error_in(log: Path) -> Iterator[None]:
    """Send the standard error of this process, and of those that it starts, to a file."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def first_line(error: Exception) -> str:
    """Return what an error of Spark says, without the stacks."""
    java = getattr(error, "java_exception", None)
    message = str(java.getMessage() if java is not None else error).strip().splitlines()
    return f"{type(error).__name__}: {message[0][:300]}" if message else type(error).__name__
