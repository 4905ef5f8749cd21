"""Reviews and titles from a real MariaDB: read as a file of the same values, or refused well."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

import servers
from amzrec import AmzrecError, PrepareConfig, prepare
from amzrec.reviews.sources.databases import mysql
from amzrec.store.dataset import PARTS, Dataset
from voices import Voice

UTC_1827 = int(datetime.datetime(2014, 5, 27, 18, 27, tzinfo=datetime.UTC).timestamp())
PEOPLE = 40  # customers, of whom each reviews PEOPLE products
ESCAPED = quote(servers.PASSWORD, safe="")

TABLES = f"""
CREATE TABLE reviews (user_id bigint, product_id varchar(20), rating decimal(3, 1), created timestamp, body text);
INSERT INTO reviews SELECT c.seq, concat('p', p.seq), 1 + (c.seq + p.seq) % 5,
    '2014-05-27 18:27:00' + interval c.seq day, 'ü' FROM seq_1_to_{PEOPLE} c, seq_1_to_{PEOPLE} p;
CREATE TABLE products (product_id varchar(20), title varchar(99) CHARACTER SET latin1, brand varchar(20));
INSERT INTO products SELECT concat('p', seq), concat('Rope für ', seq), 'Acme' FROM seq_1_to_{PEOPLE};
CREATE TABLE `Big ``Orders` (buyer binary(2), `Item No` decimal(9, 2), liked bit(1), day date);
INSERT INTO `Big ``Orders` SELECT unhex(lpad(hex(c.seq), 4, '0')), p.seq, p.seq % 2, '2014-05-27'
    FROM seq_1_to_20 c, seq_1_to_20 p;
CREATE TABLE nobody (user_id int, product_id int);
CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'other';
GRANT SELECT ON shop.products TO reader@'127.0.0.1'
"""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A MariaDB that has a few tables, by its address."""
    with servers.mariadb() as url:
        connection = mysql.connect(mysql_address(url)).connection
        connection.rollback()
        with connection.cursor() as cursor:
            for statement in TABLES.split(";\n"):
                cursor.execute(statement)
        connection.commit()
        connection.close()
        yield url


def mysql_address(url: str) -> Any:
    """Take the address of the server apart."""
    from amzrec.reviews.sources import address

    return address.parsed(url)


def rows_of(dataset: Dataset) -> list[tuple[Any, ...]]:
    """Return (customer, product, stars, seconds) of all parts, sorted."""
    customers, products = dataset.customers["customer_id"].to_pylist(), dataset.products["product_id"].to_pylist()
    tables = [pq.read_table(dataset.path / f"{part}.parquet").to_pylist() for part in PARTS]
    return sorted(
        (customers[r["customer"]], products[r["product"]], r["stars"], r["timestamp"]) for t in tables for r in t
    )


def test_a_table_is_read_like_a_file(server: str, tmp_path: Path) -> None:
    voice = Voice()
    dataset = prepare(f"{server}#reviews", tmp_path / "d", PrepareConfig(titles=f"{server}#products"), progress=voice)
    assert rows_of(dataset) == sorted(
        (str(c), f"p{p}", float(1 + (c + p) % 5), UTC_1827 + 86_400 * c)
        for c in range(1, PEOPLE + 1)
        for p in range(1, PEOPLE + 1)
    )
    assert any("1,600 rows fetched" in line for line in voice.lines)
    assert f"Rope für {PEOPLE}" in dataset.products["title"].to_pylist()
    assert "brand=Acme" in dataset.products["features"].to_pylist()[1]


def test_rows_come_in_batches(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "ROWS", 700)
    database = mysql.connect(mysql_address(server))
    wanted = {"customer_id": ("user_id", "integer"), "product_id": ("product_id", "text")}
    assert [batch.num_rows for batch in database.rows("SELECT * FROM reviews", wanted)] == [700, 700, 200]


def test_names_with_blanks_bytes_decimals_bits_and_dates_are_as_people_write_them(server: str, tmp_path: Path) -> None:
    columns = "customer=buyer,product=Item No,stars=liked,timestamp=day"
    rows = rows_of(prepare(server, tmp_path / "d", PrepareConfig(table="Big `Orders", columns=columns)))
    midnight = UTC_1827 - (18 * 60 + 27) * 60
    assert rows[0] == ("0001", "1", 1.0, midnight)
    assert {row[1] for row in rows} == {str(p) for p in range(1, 21)}
    assert {row[2] for row in rows} == {0.0, 1.0}


def test_a_query_is_run_with_its_comments_and_semicolons(server: str, tmp_path: Path) -> None:
    query = "WITH r AS (SELECT * FROM reviews WHERE rating >= 4) SELECT user_id, product_id item, rating FROM r -- x\n;"
    dataset = prepare(server, tmp_path / "d", PrepareConfig(query=query))
    assert dataset.info.counts.kept == PEOPLE * PEOPLE * 2 // 5


@pytest.mark.parametrize(
    ("typed", "config", "message"),
    [
        ("#review", {}, r"has no table 'review'; did you mean reviews"),
        ("", {}, r"has 2 tables that it could be: nobody, reviews"),
        ("", {"query": "select * from review"}, r"review' doesn't exist\)\. Its tables: reviews"),
        ("", {"query": "selec 1"}, r"the query failed .*Mend the --query"),
        ("", {"query": "delete from reviews returning *"}, r"the query failed"),
        ("", {"query": "select user_id a, 1 a from reviews", "columns": "customer=a,product=b"}, "one name"),
        ("#nobody", {}, "holds no rows"),
        ("#reviews", {"columns": "customer=user,product=product_id"}, "did you mean user_id"),
        ("#products", {}, "no known layout: it is a table with the columns product_id"),
        ("?ssl=1#reviews", {}, "has the unknown parameter 'ssl'; allowed: unix_socket"),
    ],
)  # fmt: skip
def test_what_the_server_cannot_give_is_refused_in_one_line(
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
    assert ESCAPED not in text


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (ESCAPED, "wrong", "did not let us in .*Access denied"),
        (f":{ESCAPED}@", "@", "did not let us in .*Access denied"),
        ("/shop", "/nodb", "Unknown database 'nodb'.*Name another behind the last /"),
        ("/shop", "", "names no database"),
        ("127.0.0.1", "nowhere.invalid", "does not answer"),
        (ESCAPED, servers.PASSWORD, "a password with special characters is written.*MYSQL_PWD"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named_without_the_password(
    server: str, tmp_path: Path, before: str, after: str, message: str
) -> None:
    with pytest.raises(AmzrecError, match=message) as refused:
        prepare(server.replace(before, after, 1), tmp_path / "d", PrepareConfig(table="reviews"))
    assert_hidden(str(refused.value))


def test_a_table_that_the_user_may_not_read_is_not_offered(server: str, tmp_path: Path) -> None:
    reader = server.replace(f"amz:{ESCAPED}", "reader:other")
    with pytest.raises(AmzrecError, match=r"denied.*GRANT SELECT"):
        prepare(reader, tmp_path / "d", PrepareConfig(query="select * from reviews"))
    with pytest.raises(AmzrecError, match="Its tables: products"):
        prepare(reader, tmp_path / "d", PrepareConfig(table="reviews"))


def test_the_password_may_come_from_the_environment_or_a_file_and_is_written_nowhere(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = Voice()
    prepare(f"{server}#reviews", tmp_path / "d", progress=voice)
    for file in (tmp_path / "d").iterdir():
        assert servers.PASSWORD.encode() not in file.read_bytes()
        assert ESCAPED.encode() not in file.read_bytes()
    assert_hidden("\n".join(voice.lines))
    document = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert document["source"] == server.replace(ESCAPED, "***") + "#reviews"
    bare = server.replace(f":{ESCAPED}", "")
    monkeypatch.setenv("MYSQL_PWD", servers.PASSWORD)
    prepare(f"{bare}#reviews", tmp_path / "e")
    monkeypatch.delenv("MYSQL_PWD")
    monkeypatch.setattr(mysql, "OWN_FILE", tmp_path / "my.cnf")
    (tmp_path / "my.cnf").write_text(f'[client]\nuser=amz\npassword="{servers.PASSWORD}"\n')
    prepare(f"{bare.replace('amz@', '')}#reviews", tmp_path / "f")


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(AmzrecError, match=r"pip install 'amzrec\[mysql\]'"):
        prepare("mysql://me@127.0.0.1/shop", tmp_path / "d")
