"""Spark as the engine of the same expressions, on one machine or a cluster; no Python runs on its workers."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.pyspark import Backend
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from amzrec.errors import AmzrecError
from amzrec.reviews.engines.sparksql import SparkSQL
from amzrec.reviews.sources.relation import BAD_RECORD, BROKEN, LINE, NOT_JSON, NOT_UTF8, PLACE, blank_lines, is_gzip

CORRUPT = "amzrec:corrupt"  # the reader's column for records that it cannot read
ELSEWHERE = ("SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "MASTER")
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


class Spark(Backend):  # type: ignore[misc]
    """Ibis on Spark, its tables as Parquet in the folder `scratch`, which every machine of a cluster must see."""

    compiler = SparkSQL()
    scratch: Path
    owned: bool  # whether the session ends with the work

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.numbers = itertools.count()
        self.frames: dict[Path, DataFrame] = {}  # file → its rows with PLACE, none left out
        self.headers: dict[Path, int] = {}  # file → its records that are not in its frame
        self.folders: dict[str, Path] = {}  # table → its Parquet
        self.views: list[str] = []

    def frame(self, table: Any) -> DataFrame:
        """An expression or an Arrow table as a data frame."""
        if isinstance(table, pa.Table):
            return self._session.createDataFrame(table)
        self._run_pre_execute_hooks(table)
        return self._session.sql(self.compile(table))

    def view(self, frame: DataFrame) -> Any:
        """A data frame as an Ibis table."""
        name = f"view_{next(self.numbers)}"
        self.views.append(name)
        frame.createOrReplaceTempView(name)
        return self.table(name)

    def spooled(self, table: Any, name: str) -> Path:
        """The rows in order, as the Parquet files of a new folder."""
        folder = self.scratch / f"{name}-{next(self.numbers)}"
        self.frame(table).write.parquet(address(folder))
        return folder

    def create_table(self, name: str, /, obj: Any = None, *, overwrite: bool = False, **_: Any) -> Any:
        """A table of this connection, computed now."""
        frame = self.frame(obj)
        folder = self.scratch / f"{name}-{next(self.numbers)}"
        frame.write.parquet(address(folder))
        if name in self.folders:
            shutil.rmtree(self.folders[name], ignore_errors=True)
        self.folders[name] = folder
        self.parquet(folder, frame.schema).createOrReplaceTempView(name)
        return self.table(name)

    def _register_in_memory_table(self, op: Any) -> None:
        self._session.createDataFrame(op.data.to_pyarrow(op.schema)).createOrReplaceTempView(op.name)

    def to_pyarrow(self, expr: Any, /, **_: Any) -> Any:
        """A small result."""
        table = expr.as_table()
        return expr.__pyarrow_result__(self.frame(table).toArrow().cast(table.schema().to_pyarrow()))

    def execute(self, expr: Any, /, **_: Any) -> Any:
        """A small result, as pandas has it."""
        return expr.__pandas_result__(self.to_pyarrow(expr.as_table()).to_pandas())

    def to_pyarrow_batches(self, expr: Any, /, *, chunk_size: int = 1_000_000, **_: Any) -> Any:
        """A result of any size, in order."""
        schema = expr.as_table().schema().to_pyarrow()
        return pa.RecordBatchReader.from_batches(schema, self.batches(expr, schema, chunk_size))

    def batches(self, expr: Any, schema: pa.Schema, size: int) -> Iterator[pa.RecordBatch]:
        """The rows of an expression through a spool of Parquet files."""
        folder = self.spooled(expr, "spool")
        for file in sorted(folder.glob("part-*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(batch_size=size):
                yield batch.cast(schema)
        shutil.rmtree(folder, ignore_errors=True)

    def to_parquet(self, expr: Any, /, path: str | Path, **_: Any) -> None:
        """A result of any size as one file, in order."""
        schema = expr.schema().to_pyarrow()
        with pq.ParquetWriter(path, schema) as writer:
            for batch in self.batches(expr, schema, 1_000_000):
                writer.write_batch(batch)

    def parquet(self, path: Path, schema: StructType | None = None) -> DataFrame:
        """A Parquet file or folder as a data frame."""
        reader = self._session.read.option("__globPaths__", "false")
        return (reader.schema(schema) if schema else reader).parquet(address(path))

    def read_parquet(self, path: str | Path, /, **_: Any) -> Any:
        """A Parquet file, with PLACE."""
        file = Path(path)
        self.frames[file] = placed(self.parquet(self.linked(file, ".parquet")))
        return self.view(self.frames[file])

    def linked(self, file: Path, suffix: str) -> Path:
        """A name for the file that Spark takes: no leading dot or underscore, and .gz where it is gzip."""
        link = self.scratch / f"input-{next(self.numbers)}{'.gz' if is_gzip(file) else suffix}"
        link.symlink_to(file.absolute())
        return link

    def lines(self, path: Path) -> DataFrame:
        """The non-blank lines of a text file: LINE, PLACE, and whether it is `good` UTF-8."""
        reader = self._session.read.option("__globPaths__", "false")
        whole = placed(reader.text(address(self.linked(path, ".txt"))).withColumnRenamed("value", LINE))
        self.frames[path] = whole
        good = F.call_function("is_valid_utf8", whole[LINE])
        text = F.when(good, whole[LINE]).otherwise(F.call_function("make_valid_utf8", whole[LINE]))
        return whole.filter(whole[LINE] != "").select(text.alias(LINE), PLACE, good.alias("good"))

    def read_lines(self, path: Path, header: bool) -> Any:
        """The non-blank lines of a text file after the header: line, LINE, PLACE, BROKEN where it is not UTF-8."""
        frame = self.lines(path)
        if header:
            frame = frame.filter(frame[PLACE] > blank_lines(path))
        broken = F.when(~frame["good"], NOT_UTF8)
        return self.view(frame.select(frame[LINE].alias("line"), LINE, PLACE, broken.alias(BROKEN)))

    def read_objects(self, path: Path, names: list[str]) -> Any:
        """The named keys of JSON lines as text, with LINE, PLACE, and BROKEN where a line is no object or has none."""
        frame = self.lines(path)
        frame = frame.filter(~frame[LINE].rlike(r"^\s*$"))
        schema = StructType([StructField(name, StringType()) for name in [*names, CORRUPT]])
        options = {"columnNameOfCorruptRecord": CORRUPT, "allowSingleQuotes": "false"}
        frame = frame.withColumn("value", F.from_json(frame[LINE], schema, options))
        value = frame["value"]
        bare = F.regexp_replace(frame[LINE], r"^\s+|\s+$", "")
        whole = frame["good"] & value[CORRUPT].isNull() & bare.startswith("{") & bare.endswith("}")
        told = F.coalesce(*(value[name] for name in names)).isNotNull()
        columns = [F.when(whole, value[name]).alias(name) for name in names]
        return self.view(frame.select(*columns, LINE, PLACE, F.when(~(whole & told), NOT_JSON).alias(BROKEN)))

    def read_records(self, path: Path, names: list[str], delimiter: str, header: bool) -> Any:
        """A CSV file whose quoted text goes over line ends, with PLACE, LINE and BROKEN where fields do not fit."""
        schema = StructType([StructField(name, StringType()) for name in [*names, CORRUPT]])
        frame = self._session.read.schema(schema).csv(
            address(self.linked(path, ".txt")),
            sep=delimiter, quote='"', escape='"', header=header, multiLine=True, columnNameOfCorruptRecord=CORRUPT,
        )  # fmt: skip
        frame = self.frames[path] = placed(frame)
        self.headers[path] = int(header)
        broken = F.when(frame[CORRUPT].isNotNull(), BAD_RECORD)
        return self.view(frame.select(*map(named, names), PLACE, frame[CORRUPT].alias(LINE), broken.alias(BROKEN)))

    def positions(self, path: Path) -> dict[int, int]:
        """Rows of the file before each of the pieces in which Spark read it, by the piece's number in PLACE."""
        frame = self.frames[path]
        found = frame.groupBy(F.shiftright(frame[PLACE], 33).alias("piece")).count().toArrow()
        sizes = dict(zip(found["piece"].to_pylist(), found["count"].to_pylist(), strict=True))
        starts = itertools.accumulate((sizes[piece] for piece in sorted(sizes)), initial=self.headers.get(path, 0))
        return dict(zip(sorted(sizes), starts, strict=False))

    def refused(self, file: Path, reviews: Any, reasons: dict[int, str]) -> Iterator[tuple[int, str, str]]:
        """Line or row of the file from 1, reason and text of the rows at these places."""
        if not reasons:
            return
        starts = self.positions(file)
        wanted = ibis.memtable(pa.table({PLACE: pa.array(list(reasons), pa.int64())}))
        for row in self.to_pyarrow(reviews.semi_join(wanted, PLACE).order_by(PLACE)).to_pylist():
            place, line = row.pop(PLACE), row.pop(LINE, None)
            row.pop(BROKEN, None)
            text = line if line is not None else "\t".join("" if v is None else str(v) for v in row.values())
            yield starts[place >> 33] + (place & ((1 << 33) - 1)) + 1, reasons[place], text

    def disconnect(self) -> None:
        """End the session, unless it was there before."""
        if self.owned:
            self._session.stop()
        else:
            for name in [*self.views, *self.folders]:
                self._session.catalog.dropTempView(name)


def named(column: str) -> Column:
    """The column of this very name, dots and all."""
    return F.col("`" + column.replace("`", "``") + "`")


def placed(frame: DataFrame) -> DataFrame:
    """The rows of one file with PLACE: the piece of the file, and the row in it; growing as the file goes on."""
    return frame.withColumn(PLACE, F.monotonically_increasing_id())


def address(path: Path) -> str:
    """A local path for Spark, whatever its default file system is."""
    return f"file://{path.absolute()}"


def connect(scratch: Path, master: str | None) -> Spark:
    """A connection to Spark: to the session of this process, else to a new one on `master`.

    Without `master`, Spark's own settings decide (SPARK_HOME, spark-defaults.conf, spark-submit), else all cores of
    this machine. Raises AmzrecError where Spark does not start.
    """
    before = SparkSession.getActiveSession()
    try:
        session = before or started(scratch, master)
        Spark.register_options()
        con: Spark = Spark().connect(session=session.newSession())
    except (PySparkException, Py4JError, OSError) as error:
        raise AmzrecError(
            f"Spark did not start{f' on {master}' if master else ''} ({first_line(error)}). It needs Java 17 or 21 "
            "(JAVA_HOME, or java on the PATH), and --spark-master local[*] or the address of a cluster that runs"
        ) from error
    for name, value in SETTINGS.items():
        con._session.conf.set(name, value)
    con.scratch, con.owned = scratch.absolute(), before is None
    return con


def started(scratch: Path, master: str | None) -> SparkSession:
    """A new session; what Java says goes to a file in `scratch`, so that the terminal stays ours."""
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java") and not (home and (Path(home) / "bin" / "java").is_file()):
        raise AmzrecError(
            "--engine spark needs Java 17 or 21, and there is none: install one (Debian, Ubuntu: apt-get install "
            "openjdk-17-jre-headless), or set JAVA_HOME; --engine duckdb needs none"
        )
    if master is None and not any(os.environ.get(name) for name in ELSEWHERE):
        master = "local[*]"
    builder = SparkSession.builder.appName("amzrec").config("spark.log.level", "ERROR")
    if master:
        builder = builder.master(master)
    if master and master.startswith("local"):
        memory = min(3 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        for name, value in (LOCAL | {"spark.driver.memory": f"{memory >> 20}m"}).items():
            builder = builder.config(name, value)
        builder = builder.config("spark.local.dir", str((scratch / "spill").absolute()))
    with quiet(scratch / "spark.log"):
        return builder.getOrCreate()


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Standard error of this process and of those it starts into a file."""
    sys.stderr.flush()
    kept = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def working(con: Spark, source: str, folder: Path) -> Iterator[None]:
    """Close the connection at the end; what Spark raises becomes an AmzrecError."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        said = first_line(error).replace(str(folder), folder.name)
        if any(words in str(error) for words in ("No space left", "OutOfMemoryError", "Java heap space")):
            raise AmzrecError(
                f"preparing {source} ran out of disk or memory on Spark ({said}); nothing was left behind. Free some "
                "space, choose an --out on a larger disk, or give Spark more in its spark-defaults.conf"
            ) from error
        raise AmzrecError(
            f"Spark failed on {source} ({said}). On a cluster, SOURCE and --out must stand where every machine sees "
            "them under the same path; --engine duckdb does the same on one machine"
        ) from error
    finally:
        with contextlib.suppress(PySparkException, Py4JError):
            con.disconnect()


def first_line(error: Exception) -> str:
    """What an error of Spark says, without the stacks."""
    java = getattr(error, "java_exception", None)
    said = str(java.getMessage() if java is not None else error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
