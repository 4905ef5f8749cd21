"""Spark behind the engine protocol: its readers, its tables, and where a refused row stands."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.pyspark import Backend
from py4j.protocol import Py4JError
from pyspark import sql
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Column, Engine, Refused, Table, Unread
from amzrec.reviews.engines.spark.session import first_line
from amzrec.reviews.engines.spark.sql import SparkSQL
from amzrec.reviews.relation import BAD_RECORD, BROKEN, LINE, NOT_JSON, NOT_UTF8, POSITION, Part
from amzrec.reviews.textfile import blank_lines, is_gzip

CORRUPT = "amzrec:corrupt"  # the reader's column for records that it cannot read
OUT_OF_SPACE = ("No space left", "OutOfMemoryError", "Java heap space")


def _hash(text: str) -> int:  # type: ignore[empty-body]
    """Spark's own hash of 64 bits."""


hash_of: Any = ibis.udf.scalar.builtin(_hash, name="xxhash64", signature=(("string",), "int64"))


class Ibis(Backend):  # type: ignore[misc]
    """Ibis on a Spark session, with SQL that means what DuckDB's means."""

    compiler = SparkSQL()

    def frame(self, rows: Any) -> DataFrame:
        """Return an expression or an Arrow table as a data frame."""
        if isinstance(rows, pa.Table):
            return self._session.createDataFrame(rows)
        self._run_pre_execute_hooks(rows)
        return self._session.sql(self.compile(rows))

    def _register_in_memory_table(self, op: Any) -> None:
        self._session.createDataFrame(op.data.to_pyarrow(op.schema)).createOrReplaceTempView(op.name)


class Spark(Engine):
    """The engine of --engine spark: its tables are Parquet in `scratch`, which every machine of a cluster must see."""

    name = "spark"

    def __init__(self, con: Ibis, scratch: Path, owned: bool) -> None:
        self.con, self.session, self.scratch = con, con._session, scratch
        self.owned = owned  # whether the session ends with the work
        self.numbers = itertools.count()
        self.frames: dict[Path, DataFrame] = {}  # file → its rows with POSITION, none left out
        self.headers: dict[Path, int] = {}  # file → its records that are not in its frame
        self.folders: dict[str, Path] = {}  # table → its Parquet
        self.views: list[str] = []

    @contextlib.contextmanager
    def working(self, source: str, folder: Path) -> Iterator[None]:
        """Work on `source` for the folder under construction, as the protocol says."""
        try:
            yield
        except (PySparkException, Py4JError) as error:
            message = first_line(error).replace(str(folder), folder.name)
            if any(words in str(error) for words in OUT_OF_SPACE):
                raise AmzrecError(
                    f"preparing {source} ran out of disk or memory on Spark ({message}); nothing was left behind. Free "
                    "some space, choose an --out on a larger disk, or give Spark more in its spark-defaults.conf"
                ) from error
            raise AmzrecError(
                f"Spark failed on {source} ({message}). On a cluster, SOURCE and --out must stand where every machine "
                "sees them under the same path; --engine duckdb does the work on one machine"
            ) from error
        finally:
            with contextlib.suppress(PySparkException, Py4JError):
                self.disconnect()

    def disconnect(self) -> None:
        """End the session, or only what was made in it where it was there before."""
        if self.owned:
            self.session.stop()
        else:
            for name in [*self.views, *self.folders]:
                self.session.catalog.dropTempView(name)

    def read_lines(self, path: Path, header: bool) -> Table:
        """Read lines into the columns `line` and LINE, with POSITION, and BROKEN where they are not UTF-8."""
        frame = self._lines(path)
        if header:
            frame = frame.filter(frame[POSITION] > blank_lines(path))
        broken = F.when(~frame["good"], NOT_UTF8)
        return self._view(frame.select(frame[LINE].alias("line"), LINE, POSITION, broken.alias(BROKEN)))

    def _lines(self, path: Path) -> DataFrame:
        """Return the non-blank lines of a text file: LINE, POSITION, and whether a line is `good` UTF-8."""
        reader = self.session.read.option("__globPaths__", "false")
        whole = positioned(reader.text(address(self._linked(path, ".txt"))).withColumnRenamed("value", LINE))
        self.frames[path] = whole
        good = F.call_function("is_valid_utf8", whole[LINE])
        text = F.when(good, whole[LINE]).otherwise(F.call_function("make_valid_utf8", whole[LINE]))
        return whole.filter(whole[LINE] != "").select(text.alias(LINE), POSITION, good.alias("good"))

    def read_records(self, path: Path, names: list[str], delimiter: str, header: bool) -> Table:
        """Read records into text columns, with POSITION, and LINE and BROKEN where fields do not fit."""
        schema = StructType([StructField(name, StringType()) for name in [*names, CORRUPT]])
        frame = self.session.read.schema(schema).csv(
            address(self._linked(path, ".txt")),
            sep=delimiter, quote='"', escape='"', header=header, multiLine=True, columnNameOfCorruptRecord=CORRUPT,
        )  # fmt: skip
        frame = self.frames[path] = positioned(frame)
        self.headers[path] = int(header)
        broken = F.when(frame[CORRUPT].isNotNull(), BAD_RECORD)
        return self._view(frame.select(*map(column, names), POSITION, frame[CORRUPT].alias(LINE), broken.alias(BROKEN)))

    def forget_unread(self) -> None:
        """Do nothing: there is no such list."""

    def read_objects(self, path: Path, keys: Mapping[str, tuple[str, ...]]) -> Table:
        """Read values of JSON lines as text, with LINE, POSITION and BROKEN."""
        outermost = sorted({path[0] for path in keys.values()})
        frame = self._lines(path)
        frame = frame.filter(~frame[LINE].rlike(r"^\s*$"))
        schema = StructType([StructField(key, StringType()) for key in [*outermost, CORRUPT]])
        options = {"columnNameOfCorruptRecord": CORRUPT, "allowSingleQuotes": "false"}
        frame = frame.withColumn("value", F.from_json(frame[LINE], schema, options))
        value = frame["value"]
        bare = F.regexp_replace(frame[LINE], r"^\s+|\s+$", "")
        whole = frame["good"] & value[CORRUPT].isNull() & bare.startswith("{") & bare.endswith("}")
        something = F.coalesce(*(value[key] for key in outermost)).isNotNull()
        columns = [F.when(whole, inner_value(value[p[0]], p[1:])).alias(name) for name, p in keys.items()]
        return self._view(frame.select(*columns, LINE, POSITION, F.when(~(whole & something), NOT_JSON).alias(BROKEN)))

    def read_parquet(self, path: Path) -> Table:
        """Read a Parquet file, with POSITION."""
        self.frames[path] = positioned(self._parquet(self._linked(path, ".parquet")))
        return self._view(self.frames[path])

    def _parquet(self, path: Path, schema: StructType | None = None) -> DataFrame:
        """Return a Parquet file or folder as a data frame."""
        reader = self.session.read.option("__globPaths__", "false")
        return (reader.schema(schema) if schema else reader).parquet(address(path))

    def _linked(self, file: Path, suffix: str) -> Path:
        """Give the file a name that Spark takes: no leading dot or underscore, and .gz where it is gzip."""
        link = self.scratch / f"input-{next(self.numbers)}{'.gz' if is_gzip(file) else suffix}"
        link.symlink_to(file.absolute())
        return link

    def _view(self, frame: DataFrame) -> Table:
        """Return a data frame as an Ibis table."""
        name = f"view_{next(self.numbers)}"
        self.views.append(name)
        frame.createOrReplaceTempView(name)
        return self.con.table(name)

    def scan(self, stream: Any) -> Table | None:
        """Take no streams: the workers of Spark are other processes."""
        return None

    def unread(self) -> list[Unread]:
        """List nothing: what Spark cannot read is BROKEN in its table."""
        return []

    @contextlib.contextmanager
    def in_order(self, part: Part) -> Iterator[Table]:
        """Rename the POSITION that every reader of this engine gives."""
        yield part.reviews.rename(position=POSITION)

    def refused(self, part: Part, reasons: dict[int, str]) -> Iterator[Refused]:
        """Find the rows by their POSITION, whose piece of the file and row in it become the line of the file."""
        if not reasons:
            return
        starts = self._starts(part.file)
        wanted = ibis.memtable(pa.table({POSITION: pa.array(list(reasons), pa.int64())}))
        for row in self.fetch(part.reviews.semi_join(wanted, POSITION).order_by(POSITION)).to_pylist():
            position, line = row.pop(POSITION), row.pop(LINE, None)
            row.pop(BROKEN, None)
            text = line if line is not None else "\t".join("" if v is None else str(v) for v in row.values())
            yield Refused(starts[position >> 33] + (position & ((1 << 33) - 1)) + 1, reasons[position], text)

    def _starts(self, path: Path) -> dict[int, int]:
        """Count the rows of the file before each piece in which Spark read it, by the piece's number in POSITION."""
        frame = self.frames[path]
        pieces = frame.groupBy(F.shiftright(frame[POSITION], 33).alias("piece")).count().toArrow()
        sizes = dict(zip(pieces["piece"].to_pylist(), pieces["count"].to_pylist(), strict=True))
        starts = itertools.accumulate((sizes[piece] for piece in sorted(sizes)), initial=self.headers.get(path, 0))
        return dict(zip(sorted(sizes), starts, strict=False))

    def table(self, name: str) -> Table:
        """Return a table or view of this session."""
        return self.con.table(name)

    def create_table(self, name: str, rows: Table | pa.Table, overwrite: bool = False) -> Table:
        """Compute a table into a folder of Parquet files; an older one of this name goes."""
        frame = self.con.frame(rows)
        folder = self.scratch / f"{name}-{next(self.numbers)}"
        frame.write.parquet(address(folder))
        if name in self.folders:
            shutil.rmtree(self.folders[name], ignore_errors=True)
        self.folders[name] = folder
        self._parquet(folder, frame.schema).createOrReplaceTempView(name)
        return self.con.table(name)

    def drop(self, *names: str) -> None:
        """Keep the tables: they are files of the scratch folder, and go with it."""

    def beside(self) -> Spark:
        """Return this connection: Spark takes queries from several threads."""
        return self

    def fetch(self, table: Table) -> pa.Table:
        """Return all rows, through the memory of the driver."""
        return self.con.frame(table).toArrow().cast(table.schema().to_pyarrow())

    def batches(self, table: Table, rows: int) -> Iterator[pa.RecordBatch]:
        """Return rows through Parquet files, so that the driver never holds all of them."""
        schema = table.schema().to_pyarrow()
        folder = self.scratch / f"spool-{next(self.numbers)}"
        self.con.frame(table).write.parquet(address(folder))
        for file in sorted(folder.glob("part-*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(batch_size=rows):
                yield batch.cast(schema)
        shutil.rmtree(folder, ignore_errors=True)

    def write_parquet(self, table: Table, path: Path) -> None:
        """Write the batches into one file."""
        with pq.ParquetWriter(path, table.schema().to_pyarrow()) as writer:
            for batch in self.batches(table, 1_000_000):
                writer.write_batch(batch)

    def hash(self, text: Column) -> Column:
        """Hash with Spark's `xxhash64`."""
        return hash_of(text)


def column(name: str) -> sql.Column:
    """Return the column of this very name, dots and all."""
    return F.col("`" + name.replace("`", "``") + "`")


def inner_value(text: sql.Column, path: tuple[str, ...]) -> sql.Column:
    """Return the value at a path of keys in a column of JSON, the column itself where the path has none."""
    return F.get_json_object(text, "$" + "".join(f"['{key}']" for key in path)) if path else text


def positioned(frame: DataFrame) -> DataFrame:
    """Add POSITION to the rows of one file: the piece of the file, and the row in it."""
    return frame.withColumn(POSITION, F.monotonically_increasing_id())


def address(path: Path) -> str:
    """Return a local path as Spark takes it, whatever its default file system is."""
    return f"file://{path.absolute()}"
