"""Reviews and titles from a real PostgreSQL and from SQLite: read as a file of the same values, or refused well."""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

import servers
from amzrec import AmzrecError, PrepareConfig, prepare
from amzrec.reviews import cache
from amzrec.reviews.sources import address
from amzrec.store.dataset import PARTS, Dataset
from voices import Voice

UTC_1827 = int(datetime.datetime(2014, 5, 27, 18, 27, tzinfo=datetime.UTC).timestamp())
PEOPLE = 40  # customers, of whom each reviews PEOPLE products


def rows_of(dataset: Dataset) -> list[tuple[Any, ...]]:
    """Return (customer, product, stars, seconds) of all parts, sorted."""
    customers = dataset.customers["customer_id"].to_pylist()
    products = dataset.products["product_id"].to_pylist()
    tables = [pq.read_table(dataset.path / f"{part}.parquet").to_pylist() for part in PARTS]
    return sorted(
        (customers[r["customer"]], products[r["product"]], r["stars"], r["timestamp"]) for t in tables for r in t
    )


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL that has a few tables, by its address."""
    with servers.postgresql() as url:
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in TABLES.split(";\n"):
                cursor.execute(statement)
        yield url


TABLES = f"""
CREATE SCHEMA sales;
CREATE TYPE tier AS ENUM ('p1', 'p2');
CREATE TABLE reviews (user_id bigint, product_id text, rating numeric(3, 1), created timestamptz, body text);
INSERT INTO reviews SELECT c, 'p' || p, 1 + (c + p) % 5, '2014-05-27 18:27:00+00'::timestamptz + c * interval '1 day',
    repeat('x', 10) FROM generate_series(1, {PEOPLE}) c, generate_series(1, {PEOPLE}) p;
CREATE TABLE products (product_id text, title text, brand text, price numeric, tags text[]);
INSERT INTO products SELECT 'p' || p, 'Rope ' || p, 'Acme', 9.99, ARRAY['a', 'b'] FROM generate_series(1, {PEOPLE}) p;
CREATE TABLE sales."Big Orders" (buyer uuid, "Item No" numeric, liked boolean, day date);
INSERT INTO sales."Big Orders" SELECT ('00000000-0000-0000-0000-0000000000' || to_char(c, 'FM00'))::uuid, p, p % 2 = 0,
    '2014-05-27' FROM generate_series(1, 20) c, generate_series(1, 20) p;
CREATE TABLE sales.types
    (u double precision, p char(4), t tier, stars real, naive timestamp, doc jsonb, n numeric(9, 2));
INSERT INTO sales.types SELECT 17, 'ab', 'p1', 4.5, '2014-05-27 18:27', '{{"id": 1}}', 12 FROM generate_series(1, 3);
CREATE TABLE sales.nobody (user_id int, product_id int);
CREATE ROLE reader LOGIN PASSWORD 'other';
CREATE VIEW sales.good AS SELECT user_id customer, product_id product, rating stars FROM reviews WHERE rating > 2
"""


def test_a_table_of_postgresql_is_read_like_a_file(server: str, tmp_path: Path) -> None:
    voice = Voice()
    config = PrepareConfig(columns="customer=user_id,product=product_id,stars=rating,timestamp=created")
    dataset = prepare(f"{server}#reviews", tmp_path / "d", config, progress=voice)
    assert rows_of(dataset) == sorted(
        (str(c), f"p{p}", float(1 + (c + p) % 5), UTC_1827 + 86_400 * c)
        for c in range(1, PEOPLE + 1)
        for p in range(1, PEOPLE + 1)
    )
    assert any("1,600 rows fetched" in line for line in voice.lines)


def test_the_only_table_with_customers_is_taken_and_titles_come_from_the_only_one_with_titles(
    server: str, tmp_path: Path
) -> None:
    only = server.replace("/postgres", "/postgres?options=-csearch_path%3Dpublic")
    with pytest.raises(AmzrecError, match=r"has 3 tables that it could be: reviews, sales.good, sales.nobody"):
        prepare(only, tmp_path / "d")
    dataset = prepare(only, tmp_path / "d", PrepareConfig(table="reviews", titles=only))
    assert dataset.products["title"].to_pylist()[1].startswith("Rope ")
    assert "brand=Acme" in dataset.products["features"].to_pylist()[1]
    assert dataset.info.source.endswith("#reviews")
    assert (dataset.info.columns or {})["stars"] == "rating"


def test_names_with_blanks_uuids_whole_numerics_booleans_and_dates_are_as_people_write_them(
    server: str, tmp_path: Path
) -> None:
    columns = "customer=buyer,product=Item No,stars=liked,timestamp=day"
    config = PrepareConfig(table="sales.Big Orders", columns=columns)
    rows = rows_of(prepare(server, tmp_path / "d", config))
    midnight = UTC_1827 - (18 * 60 + 27) * 60
    assert rows[0] == ("00000000-0000-0000-0000-000000000001", "1", 0.0, midnight)
    assert {r[1] for r in rows} == {str(p) for p in range(1, 21)}
    assert {r[2] for r in rows} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("customer", "product", "expected"),
    [("u", "p", ("17", "ab")), ("t", "n", ("p1", "12")), ("n", "u", ("12", "17"))],
)
def test_ids_of_any_type_become_the_text_that_people_write(
    server: str, tmp_path: Path, customer: str, product: str, expected: tuple[str, str]
) -> None:
    columns = f"customer={customer},product={product},stars=stars,timestamp=naive"
    config = PrepareConfig(table="types", columns=columns, test=0.01, valid=0)
    # stars that are all equal, as those of a single review are, are taken as clicks
    assert rows_of(prepare(server, tmp_path / "d", config)) == [(*expected, None, UTC_1827)]


def test_a_query_is_run_with_its_comments_and_semicolons(server: str, tmp_path: Path) -> None:
    query = (
        "WITH r AS (SELECT * FROM reviews WHERE rating >= 4) SELECT user_id, product_id AS item, rating FROM r -- x\n;"
    )
    dataset = prepare(server, tmp_path / "d", PrepareConfig(query=query))
    assert dataset.info.counts.kept == PEOPLE * PEOPLE * 2 // 5
    again = prepare(f"{server}#{query}", tmp_path / "e")
    assert rows_of(again) == rows_of(dataset)


@pytest.mark.parametrize(
    ("typed", "config", "message"),
    [
        ("#review", {}, r"has no table 'review'; did you mean reviews"),
        ("", {"query": "select * from review"}, r'relation "review" does not exist.*Its tables: reviews'),
        ("", {"query": "selec 1"}, r"syntax error at or near"),
        ("", {"query": "delete from reviews returning *"}, r"the query failed"),
        ("", {"query": "select user_id a, 1 a, 2 b from reviews", "columns": "customer=a,product=b"}, "ambiguous"),
        ("#sales.nobody", {}, "holds no rows|no reviews"),
        ("#sales.types", {"columns": "customer=doc,product=p"}, "column 'doc' of .* holds JSON"),
        ("#reviews", {"columns": "customer=user,product=product_id"}, "did you mean user_id"),
        ("#products", {}, "no known layout: it is a table with the columns product_id"),
    ],
)  # fmt: skip
def test_what_postgresql_cannot_give_is_refused_in_one_line(
    server: str, tmp_path: Path, typed: str, config: dict[str, str], message: str
) -> None:
    with pytest.raises(AmzrecError, match=message) as refused:
        prepare(server + typed, tmp_path / "d", PrepareConfig.of(**config))
    assert "\n" not in str(refused.value)
    assert_hidden(str(refused.value))
    assert not (tmp_path / "d").exists()


def assert_hidden(text: str) -> None:
    """Assert that the password of the tests stands nowhere in a text, in no spelling."""
    assert servers.PASSWORD not in text
    assert quote(servers.PASSWORD, safe="") not in text


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (quote(servers.PASSWORD, safe=""), "wrong", "did not let us in .*password authentication failed"),
        (f":{quote(servers.PASSWORD, safe='')}@", "@", "did not let us in .*no password"),
        ("/postgres", "/nodb", "Name another behind the last /"),
        ("127.0.0.1:", "127.0.0.1:1", "does not answer|cannot be understood"),
        ("127.0.0.1", "nowhere.invalid", "does not answer"),
        (quote(servers.PASSWORD, safe=""), servers.PASSWORD, "a password with special characters is written"),
        ("amz:", "reader:", "did not let us in"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named_without_the_password(
    server: str, tmp_path: Path, before: str, after: str, message: str
) -> None:
    with pytest.raises(AmzrecError, match=message) as refused:
        prepare(server.replace(before, after, 1), tmp_path / "d", PrepareConfig(table="reviews"))
    assert_hidden(str(refused.value))


def test_a_table_that_the_user_may_not_read_is_not_offered(server: str, tmp_path: Path) -> None:
    reader = server.replace(f"amz:{quote(servers.PASSWORD, safe='')}", "reader:other")
    with pytest.raises(AmzrecError, match=r"permission denied.*GRANT SELECT"):
        prepare(reader, tmp_path / "d", PrepareConfig(query="select * from reviews"))
    with pytest.raises(AmzrecError, match="none that you may read"):
        prepare(reader, tmp_path / "d", PrepareConfig(table="reviews"))


def test_the_password_may_come_from_the_environment_and_is_written_nowhere(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = Voice()
    config = PrepareConfig(titles=server, max_rejects=1)
    prepare(f"{server}#reviews", tmp_path / "d", config, progress=voice)
    for file in (tmp_path / "d").iterdir():
        assert servers.PASSWORD.encode() not in file.read_bytes()
        assert quote(servers.PASSWORD, safe="").encode() not in file.read_bytes()
    assert_hidden("\n".join(voice.lines))
    document = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert document["source"] == address.masked(server) + "#reviews"
    assert ":***@" in document["source"]
    monkeypatch.setenv("PGPASSWORD", servers.PASSWORD)
    bare = server.replace(f":{quote(servers.PASSWORD, safe='')}", "")
    prepare(f"{bare}#reviews", tmp_path / "e")


def test_rows_that_are_refused_are_listed_under_the_name_of_the_table(server: str, tmp_path: Path) -> None:
    query = "select user_id, case when user_id > 1 then product_id end as product_id, rating from reviews"
    dataset = prepare(server, tmp_path / "d", PrepareConfig(query=query, max_rejects=0.5))
    listed = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert dataset.info.counts.rejected == {"no product": PEOPLE}
    assert listed[0]["file"].startswith("postgresql://amz:***@127.0.0.1")


def test_a_database_is_read_anew_each_time_and_the_same_content_is_one_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    file = sqlite_file(tmp_path / "shop.db")
    first = cache.dataset_of(file)
    assert cache.dataset_of(file).path == first.path
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE reviews SET rating = 1 WHERE user_id = 3")
    second = cache.dataset_of(file)
    assert second.path != first.path
    assert first.path.is_dir()
    assert set(os.listdir(tmp_path / "cache")) - {"compared"} == {first.path.name, second.path.name}


def sqlite_file(path: Path) -> Path:
    """Make an SQLite file of reviews, whose columns hold values of any type, as SQLite lets them."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE reviews (user_id, product_id TEXT, rating, created)")
        connection.execute("CREATE TABLE products (product_id TEXT, title TEXT)")
        for c in range(20):
            for p in range(20):
                row = (
                    float(c) if p % 2 else c,
                    f"p{p}",
                    str(p % 5 + 1) if c % 2 else p % 5 + 1.0,
                    "2014-05-27 18:27:00",
                )
                connection.execute("INSERT INTO reviews VALUES (?, ?, ?, ?)", row)
        connection.executemany("INSERT INTO products VALUES (?, ?)", [(f"p{p}", f"Rope {p}") for p in range(20)])
    connection.close()
    return path


@pytest.mark.parametrize("form", ["{path}", "sqlite:///{path}", "sqlite://{path}", "{path}#reviews"])
def test_an_sqlite_file_is_read_whatever_its_name_and_types(tmp_path: Path, form: str) -> None:
    file = sqlite_file(tmp_path / "shop.data")
    columns = "customer=user_id,product=product_id,stars=rating,timestamp=created"
    dataset = prepare(form.format(path=file), tmp_path / "d", PrepareConfig(columns=columns, titles=str(file)))
    assert rows_of(dataset) == sorted((str(c), f"p{p}", p % 5 + 1.0, UTC_1827) for c in range(20) for p in range(20))
    assert dataset.products["title"].to_pylist()[1].startswith("Rope ")


def test_an_sqlite_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    file = sqlite_file(tmp_path / "shop.db")
    for source, config, message in (
        ("sqlite:///nothing.db", {}, "there is no SQLite file nothing.db"),
        (f"{file}#reviws", {}, "did you mean reviews"),
        (f"{file}", {"query": "select * from nowhere"}, "no such table: nowhere"),
        (f"{file}#products", {}, "it is a table with the columns product_id, title"),
        (f"sqlite:///{write(tmp_path / 'text.db', 'no database at all, ' * 99)}", {}, "no SQLite file"),
        (str(write(tmp_path / "a.csv", "user,item\na,b\n")), {"table": "reviews"}, "--table is for databases"),
    ):
        with pytest.raises(AmzrecError, match=message):
            prepare(source, tmp_path / "d", PrepareConfig.of(**config))
    damaged = bytearray(file.read_bytes())
    damaged[4096:] = b"\x07" * (len(damaged) - 4096)
    (tmp_path / "damaged.db").write_bytes(damaged)
    with pytest.raises(AmzrecError, match=r"damaged|no table"):
        prepare(str(tmp_path / "damaged.db"), tmp_path / "d")


def write(path: Path, text: str) -> Path:
    """Write a file."""
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("postgresql://u:p%40w@h:1/d?sslpassword=x&a=b#t", "postgresql://u:***@h:1/d?sslpassword=***&a=b#t"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("s3://key:secret@bucket/a:b@c.csv", "s3://key:***@bucket/a:b@c.csv"),
        ("https://h/a.csv?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/a.csv?X-Amz-Signature=***&X-Amz-Date=1"),
        ("folder/a:b@c.csv", "folder/a:b@c.csv"),
    ],
)
def test_what_is_secret_in_an_address_is_not_shown(source: str, shown: str) -> None:
    assert address.masked(source) == shown
