"""Spark keeps the engine contract, and gives the dataset folder that DuckDB gives: all kinds of dirt, each split."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import servers
from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import checks, engines
from amzrec.reviews.engines.protocol import Engine
from amzrec.store.dataset import CUSTOMERS, PARTS, PRODUCTS, REJECTS, Counts
from conftest import ROOT
from engine_contract import EngineContract, write
from sparks import NO_PYSPARK, QUICK, need_spark
from test_sources import US_REVIEWS

TABLES = [f"{part}.parquet" for part in PARTS] + [CUSTOMERS, PRODUCTS, REJECTS]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL with 400 reviews in a table."""
    from adbc_driver_postgresql import dbapi

    with servers.postgresql() as url:
        with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE reviews AS SELECT c AS user_id, 'p' || p AS product_id, (c + p) % 5 + 1.5 AS rating, "
                "timestamptz '2014-05-27 18:27+00' + c * interval '1 day' AS created "
                "FROM generate_series(1, 20) c, generate_series(1, 20) p"
            )
        yield url


@pytest.mark.spark
class TestSpark(EngineContract):
    @pytest.fixture
    def engine(self, spark: Any, tmp_path: Path) -> Engine:
        return engines.connect(tmp_path, PrepareConfig(engine="spark"))


def same_on_both(source: Path | str, folder: Path, **settings: Any) -> Counts:
    """The counts of a source, after both engines gave the same six tables and the same dataset.json."""
    duckdb, spark = (
        prepare(source, folder / f"by-{name}", PrepareConfig(engine=name, **settings)) for name in ("duckdb", "spark")
    )
    for table in TABLES:
        ours, theirs = pq.read_table(duckdb.path / table), pq.read_table(spark.path / table)
        assert theirs.schema.equals(ours.schema), table
        assert theirs.equals(ours), table
    assert spark.info == duckdb.info
    assert {p.name for p in spark.path.iterdir()} == {p.name for p in duckdb.path.iterdir()}
    return spark.info.counts


DIRTY = [
    b"\xef\xbb\xbfuser,item,rating,time,title,category",
    *(b"u%d,p%d,%d,%d,Title %d,C%d" % (i % 7, i % 11, i % 5 + 1, i % 3, i % 4, i % 2) for i in range(60)),
    b"u1,p1,2,1,Title 1,C1",  # again, exactly, with other stars, later
    b"u1,p1,2,1,Title 1,C1",
    b"u1,p1,3,1,Title 1,C1",
    b"u1,p1,1,2015-08-31T00:00:05.9Z,Title 1,C1",
    b"",
    b'007,"p,1 ""x""",4.5,8/31/2015,"Salt &amp; Pepper",',
    b" 7 ,\tp1\x0b,5.0,1440979200000,NA,null",
    b'vv,ff,1e0,yesterday,"it\'s | \\ $1",\xc3\xa9',
    b"u9,p9",  # refused from here on
    b"u9,p9,5,1,a,b,c",
    b",p9,5,1,a,b",
    b"u9,  ,5,1,a,b",
    b"u9,p9,5f,1,a,b",
    b"u9,p9,1e400,1,a,b",
    b"u9,p9,NaN,1,a,b",
    b'u9,"p9,5,1,a,b',
    b"u9,p\xff9,5,1,a,b",
    b"user,item,rating,time,title,category",
    b"  ",
    b"\r",
    b"",
]


def columns(*names: str) -> str:
    return ",".join(f"{name}={theirs}" for name, theirs in zip(names[::2], names[1::2], strict=True))


ALL = columns(
    "customer", "user", "product", "item", "stars", "rating", "timestamp", "time",
    "title", "title", "category", "category",
)  # fmt: skip


@pytest.mark.spark
def test_a_table_of_postgresql_is_the_same(spark: Any, tmp_path: Path, postgresql: str) -> None:
    named = columns("customer", "user_id", "product", "product_id", "stars", "rating", "timestamp", "created")
    assert same_on_both(postgresql, tmp_path, table="reviews", columns=named).kept == 400


@pytest.mark.spark
def test_files_in_a_bucket_and_on_the_web_are_the_same(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"c{c},p{p},{(c + p) % 5 + 1}\n" for c in range(20) for p in range(20)]
    with servers.s3() as endpoint, servers.serving(SimpleHTTPRequestHandler, tmp_path) as site:
        for name, value in (("ENDPOINT_URL", endpoint), ("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret")):
            monkeypatch.setenv(f"AWS_{name}", value)
        for number, lines in enumerate((rows[:100], rows[100:])):
            text = "customer_id,product_id,stars\n" + "".join(lines)
            write(tmp_path / f"part-{number}.csv", text)
            with servers.bucket_of(endpoint).open_output_stream(f"shop/many/part-{number}.csv") as stream:
                stream.write(text.encode())
        assert same_on_both("s3://shop/many", tmp_path / "s3").kept == 400
        assert same_on_both(f"{site}/part-1.csv", tmp_path / "web").kept == 300


@pytest.mark.spark
def test_a_csv_with_every_kind_of_dirt_is_the_same_also_its_rejects(spark: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "_a b[1].csv", b"\n".join(DIRTY))
    counts = same_on_both(file, tmp_path, columns=ALL, max_rejects=1)
    assert sum(counts.rejected.values()) == 11
    assert counts.rejected["not UTF-8"] == 1
    assert counts.repeats > 0
    assert counts.duplicates > 0


@pytest.mark.spark
def test_the_amazon_tsv_with_a_k_core_by_title_per_customer(spark: Any, tmp_path: Path) -> None:
    row = 'US\tc{}\tR\tp{}\tq{}\tit"s {}\tBaby\t{}\t0\t0\tN\tY\t"h\tb\t2015-08-{:02}\n'
    rows = [row.format(i % 9, i % 13, i % 13 % 6, i % 13 % 6, i % 5 + 1, i % 28 + 1) for i in range(120)]
    rows += [row.format("rare", i, i, "", 5, 1) for i in range(2)]
    file = write(tmp_path / "reviews.tsv", US_REVIEWS + "".join(rows))
    counts = same_on_both(file, tmp_path, min_reviews=3, product_key="title", split="per-customer", max_rejects=0.2)
    assert counts.filtered == 1


@pytest.mark.spark
def test_json_lines_in_milliseconds_with_metadata_split_by_time(spark: Any, tmp_path: Path) -> None:
    lines = [
        {"user_id": f"u{i % 5}", "asin": f"b{i % 7}", "parent_asin": f"p{i % 7}", "rating": i % 5 + 1.0,
         "timestamp": 1602133857705 + 86_400_000 * (i // 2), "text": 'a "b" {c}'}
        for i in range(70)
    ]  # fmt: skip
    text = [json.dumps(line).encode() for line in lines]
    text[3:3] = [b"", b" \t", b"not json", b'["u"]', b'{"other": 1}', b'{"user_id": "cut', b"{user_id: u}"]
    text += [b'{"user_id": "u\xff", "asin": "b", "parent_asin": "p", "rating": 1}', b'{"user_id": "u"} more']
    text += [b'{"user_id": 12, "asin": null, "parent_asin": "p9", "rating": "4.0", "timestamp": 1602133857}']
    file = tmp_path / "reviews"  # a gzip file of another name
    file.write_bytes(gzip.compress(b"\n".join(text)))
    titles = write(tmp_path / "meta.jsonl", '{"parent_asin": "p1", "title": "One &amp; all", "main_category": "M"}\n')
    counts = same_on_both(file, tmp_path, split="temporal", titles=str(titles), max_rejects=1, encoding="utf-8")
    assert counts.rejected == {"no JSON object": 7}


@pytest.mark.spark
def test_movielens_1m_with_the_last_review_left_out(spark: Any, tmp_path: Path) -> None:
    folder = tmp_path / "ml"
    folder.mkdir()
    rows = [f"{i % 8}::{(i * 5) % 17}::{i % 5 + 1}::{978300760 + i // 3}" for i in range(90)]
    write(folder / "ratings.dat", "\n".join(rows))
    write(folder / "movies.dat", "1::Café Müller (1975)::Drama|War\n99::Unseen (1999)::\n".encode("latin-1"))
    write(folder / "users.dat", "1::F::1::10::48067\n")
    counts = same_on_both(folder, tmp_path, split="leave-last-out", catalogue="all")
    assert (counts.test, counts.valid) == (8, 8)


@pytest.mark.spark
def test_quoted_text_over_lines_and_a_given_test_file_with_reviews_of_both(spark: Any, tmp_path: Path) -> None:
    rows = [f'u{i % 5},"two\nlines, ""{i}""",p{i},{i % 5 + 1}' for i in range(40)]
    base = write(tmp_path / "base.csv", "user,text,item,rating\n" + "\n".join(rows) + "\n")
    test = write(tmp_path / "test.csv", "user,item,rating\nu1,p1,1\nu2,p2,5\nnew,new,3\n")
    counts = same_on_both(base, tmp_path, split="given", test_source=str(test))
    assert (counts.read, counts.test) == (43, 3)


@pytest.mark.spark
def test_a_folder_of_parquet_files_of_clicks_with_numbers_for_ids(spark: Any, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for part in range(2):
        users = [float(i % 6) * 10_000_000 for i in range(40)]
        table = {"user": [*users, None], "item": [*range(part, 40 + part), 7], "file_place": ["x"] * 41}
        times = pa.array([10**18 + 10**9 * i for i in range(40)] + [None], pa.timestamp("ns"))
        pq.write_table(pa.table(table | {"timestamp": times}), folder / f"{part}.parquet")
    counts = same_on_both(folder, tmp_path, max_rejects=1)
    assert counts.rejected == {"no customer": 2}
    customers = pq.read_table(tmp_path / "by-spark" / CUSTOMERS)["customer_id"].to_pylist()
    assert "10000000" in customers, "whole numbers are themselves"


@pytest.mark.spark
def test_ids_with_exponents_are_the_same_whole_numbers(spark: Any, tmp_path: Path) -> None:
    users = ["17.0", "1e+07", "2.5e+06", "", "1.0E7", "1.25E+10", "3.0"]
    rows = [f"{users[n % 7]},{'1e5' if n % 2 else '1e+05'},{n % 5}" for n in range(30)]
    same_on_both(write(tmp_path / "r.csv", "user,item,stars\n" + "\n".join(rows) + "\n"), tmp_path, max_rejects=1)
    found = pq.read_table(tmp_path / "by-spark" / CUSTOMERS)["customer_id"].to_pylist()
    assert {"17", "10000000", "2500000", "12500000000", "3"} == set(found[1:])
    assert {"1e5", "1e+05"} == set(pq.read_table(tmp_path / "by-spark" / PRODUCTS)["product_id"].to_pylist()[1:])
    late = "\n".join([*(f"{n},p{n % 9},{n % 5}" for n in range(250)), "1e+05,p1,2"])
    (tmp_path / "late").mkdir()
    same_on_both(write(tmp_path / "late.csv", f"user,item,stars\n{late}\n"), tmp_path / "late")
    assert "100000" in pq.read_table(tmp_path / "late" / "by-spark" / CUSTOMERS)["customer_id"].to_pylist()
    table = pa.table({"user": [1e7, 1e16, float("nan"), None, 3.0] * 4, "item": range(20), "stars": [1.0, 2.0] * 10})
    pq.write_table(table, tmp_path / "r.parquet")
    (tmp_path / "floats").mkdir()
    same_on_both(tmp_path / "r.parquet", tmp_path / "floats", max_rejects=1)
    found = pq.read_table(tmp_path / "floats" / "by-spark" / CUSTOMERS)["customer_id"].to_pylist()
    assert {"10000000", "10000000000000000", "3"} == set(found[1:])


@pytest.mark.spark
def test_names_of_months_in_other_languages_are_the_same(spark: Any, tmp_path: Path) -> None:
    times = [
        "27. März 2014",
        "1. Mai 2014 um 18:27",
        "31. DEZ. 2013",
        "5. août 2014",
        "6. DÉCEMBRE 2014",
        "7. Maj 2014",
    ]
    rows = [f"u{n % 5};p{n};{n % 5};{times[n % 6]}" for n in range(30)]
    same_on_both(write(tmp_path / "r.csv", "user;item;stars;time\n" + "\n".join(rows) + "\n"), tmp_path)
    found = set(pq.read_table(tmp_path / "by-spark" / "train.parquet")["timestamp"].to_pylist())
    assert found == {1395878400, 1398968820, 1388448000, 1407196800, 1417824000, None}


@pytest.mark.spark
@pytest.mark.parametrize("split", ["temporal", "leave-last-out"])
def test_absurd_and_missing_times_are_the_same(spark: Any, tmp_path: Path, split: Any) -> None:
    absurd = {7: "4102000000", 30: "0", 31: "", 200: "86400"}  # 2099, none, none, 1970
    rows = [f"u{n % 20},p{n // 20},{n % 5},{absurd.get(n, 1_400_000_000 + 86_400 * n)}" for n in range(400)]
    same_on_both(write(tmp_path / "r.csv", "user,item,stars,time\n" + "\n".join(rows) + "\n"), tmp_path, split=split)
    missing = pq.read_table(tmp_path / "by-spark" / "train.parquet")["timestamp"].null_count
    assert missing == 4


@pytest.mark.spark
def test_very_long_lines_and_control_characters_are_the_same(spark: Any, tmp_path: Path) -> None:
    rows = [f"u{n % 20},p{n},{n % 5},t" for n in range(40)]
    odd = ["u\x01x,p1,3,t", f"long,p1,3,{'y' * (17 << 20)}", f"fits,p1,3,{'y' * (3 << 20)}"]
    file = write(tmp_path / "r.csv", "user,item,stars,text\n" + "\n".join([*rows[:20], *odd, *rows[20:]]) + "\n")
    counts = same_on_both(file, tmp_path, max_rejects=0.5)
    assert (counts.read, counts.kept) == (43, 42)
    found = pq.read_table(tmp_path / "by-spark" / CUSTOMERS)["customer_id"].to_pylist()
    assert {"u\x01x", "fits"} <= set(found)


@pytest.mark.spark
def test_counts_weigh_as_much(spark: Any, tmp_path: Path) -> None:
    rows = [f"u{n % 13},p{n % 7},{n * n % 991 / 4:g}" for n in range(80)] + ["u1,p9,", "u2,p9,-1", "u3,p9,x"]
    file = write(tmp_path / "plays.csv", "user,item,hours\n" + "\n".join(rows) + "\n")
    columns = "customer=user,product=item,stars=hours"
    same_on_both(file, tmp_path, columns=columns, stars_are="counts", max_rejects=0.5)


@pytest.mark.spark
def test_text_becomes_numbers_and_times_as_on_duckdb(spark: Any, tmp_path: Path) -> None:
    texts = [
        "1", "1.0", "5f", "5d", "1e3", " 5", "5 ", "+5", "-5", "--5", ".5", "5.", "1e400", "1e-50", "4,5", "", "1e",
        "e1", "005", "4.6", "4.5", "-4.5", "0.5", "9223372036854775807", "9223372036854775808", "1.3934e9", "true",
        "\x0bv\x0cf", "1365811200.0", "1602133857705", "2015-08-31", "2015-8-1", "2015-08", "2015",
        "2015-08-31 00:00:05", "2015-08-31T00:00:05Z", "2015-08-31 00:00:05 UTC", "2015-08-31T00:00:05+02:00",
        "2015-08-31 00:00:05.999999999",
        "2015-08-31 0:0:5", "2015-08-31 00", "2015-08-31T", "2015-08-31 23:59:60", "2015-02-30", "2015-13-01",
        "1969-12-31 23:59:59.5", "0001-01-01", "2015/08/31", "2015-08/31", "2015 08 31", "8/31/2015", "08 31, 2015",
        "31/31/2015", "2015-008-31", "20150831T000005", "5" * 40,
    ]  # fmt: skip
    found = []
    for name in ("duckdb", "spark"):
        scratch = tmp_path / name
        scratch.mkdir()
        engine = engines.connect(scratch, PrepareConfig(engine=name))
        table = engine.create_table("texts", pa.table({"n": range(len(texts)), "text": texts}))
        stars, seconds = checks.number(table.text), checks.seconds(table.text)
        stars = stars.nullif(float("inf"))
        table = table.select(
            "text", "n", stars=stars, seconds=seconds, stripped=table.text.strip(), cut=table.text[1:3]
        )
        with engine.working("texts", scratch):
            found.append(engine.fetch(table.order_by("n")).to_pylist())
    assert found[1] == found[0]


@pytest.mark.spark
def test_too_much_dirt_stops_with_the_same_words(spark: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "user,item,rating\n" + "u,p,5\n" * 9 + "\nu,p,bad\n")
    said = []
    for name in ("duckdb", "spark"):
        with pytest.raises(AmzrecError) as error:
            prepare(file, tmp_path / "out", PrepareConfig(engine=name))
        said.append(str(error.value))
    assert said[1] == said[0]
    assert "line 12: 'u,p,bad'" in said[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.spark
def test_spark_starts_as_spark_is_set_up_and_leaves_the_terminal_alone(tmp_path: Path) -> None:
    need_spark()
    lines = "".join(f"{name} {value}\n" for name, value in (QUICK | {"spark.master": "local[1]"}).items())
    write(tmp_path / "spark-defaults.conf", lines)
    (tmp_path / "scratch").mkdir()
    code = (
        "from pathlib import Path\nimport pyarrow as pa\n"
        "from amzrec.config import PrepareConfig\nfrom amzrec.reviews import engines\n"
        f"scratch = Path({str(tmp_path / 'scratch')!r})\n"
        "engine = engines.connect(scratch, PrepareConfig(engine='spark'))\n"
        "with engine.working('numbers', scratch):\n"
        "    print(engine.size(engine.create_table('numbers', pa.table({'n': [1, 2]}))), engine.session.version[0],\n"
        "          engine.session.sparkContext.master)\n"
        "import signal\nprint(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    environment = os.environ | {"SPARK_CONF_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "4", "local[1]", "True"]  # the last: Ctrl-C is heard as before
    assert "WARN" not in done.stderr
    assert "log4j" not in done.stderr


def test_without_pyspark_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("amzrec.reviews.engines.spark") or n.startswith("pyspark")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(AmzrecError, match=r"needs pyspark.*pip install 'amzrec\[spark\]'"):
        engines.connect(tmp_path, PrepareConfig(engine="spark"))


def test_without_java_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark", reason=NO_PYSPARK)
    from amzrec.reviews.engines.spark import session

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(AmzrecError, match=r"needs Java 17 or 21.*apt-get install"):
        session.new_session(tmp_path, None)


REAL: list[tuple[str, dict[str, Any]]] = [
    ("amazon_us_reviews/amazon_reviews_us_MCM2020.tsv", {"product_key": "title", "split": "temporal"}),
    ("ml-100k/u1.base", {"split": "given", "test_source": "ml-100k/u1.test"}),
    ("amazon_2018/Magazine_Subscriptions.csv", {"min_reviews": 3, "split": "leave-last-out"}),
    ("amazon_2018/Magazine_Subscriptions_5.json.gz", {"titles": "amazon_2018/meta_Magazine_Subscriptions.json.gz"}),
    ("amazon_2023/Electronics_sample.parquet", {"split": "per-customer"}),
]


@pytest.mark.spark
@pytest.mark.real
@pytest.mark.parametrize(("source", "settings"), REAL, ids=[source for source, _ in REAL])
def test_a_real_file_is_the_same(
    spark: Any, real_data: Path, tmp_path: Path, source: str, settings: dict[str, Any]
) -> None:
    files = {name: str(real_data / settings[name]) for name in ("test_source", "titles") if name in settings}
    counts = same_on_both(real_data / source, tmp_path, **settings | files)
    assert counts.kept > 1_000


@pytest.mark.spark
@pytest.mark.real
def test_the_first_20_000_reviews_of_movielens_1m_are_the_same(spark: Any, real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ml"
    folder.mkdir()
    for name in ("movies.dat", "users.dat"):
        shutil.copy(real_data / "ml-1m" / name, folder)
    (ratings,) = (real_data / "ml-1m").glob("ratings.*")
    with ratings.open("rb") as file:
        write(folder / ratings.name, b"".join(itertools.islice(file, 20_000)))
    assert same_on_both(folder, tmp_path, min_reviews=5).kept > 15_000
