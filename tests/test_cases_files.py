"""Files as people have them: each small input has a right reading known without the code, or is refused well."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amzrec import AmzrecError, PrepareConfig, prepare
from amzrec.reviews.sources.columns import guessed_columns, named_columns
from amzrec.reviews.sources.shape import Shape
from amzrec.store.dataset import PARTS, Dataset
from voices import Voice

HEADER = ("user_id", "item_id", "rating", "timestamp")
ROWS = [(f"u{c}", f"p{p}", (c + p) % 5 + 1, 1_400_000_000 + 86_400 * c) for c in range(9) for p in range(5)]
EXPECTED = {(c, p, float(stars), seconds) for c, p, stars, seconds in ROWS}
RECORDS: list[dict[str, Any]] = [dict(zip(HEADER, row, strict=True)) for row in ROWS]


def lines(rows: Iterable[Any] = ROWS, header: Iterable[str] = HEADER, separator: str = ",") -> str:
    """A delimited table; without a header where that is empty."""
    return "".join(separator.join(map(str, row)) + "\n" for row in [tuple(header), *rows] if row)


def told(source: Path | str, out: Path, **settings: Any) -> tuple[Dataset, str]:
    """The dataset of a source, and all that was said."""
    voice = Voice()
    dataset = prepare(source, out / "out", PrepareConfig.of(**settings), overwrite=True, progress=voice)
    return dataset, "\n".join(voice.lines)


def rows_of(dataset: Dataset) -> set[tuple[Any, ...]]:
    """(customer, product, stars, seconds) of all parts."""
    customers, products = dataset.customers["customer_id"].to_pylist(), dataset.products["product_id"].to_pylist()
    tables = [pq.read_table(dataset.path / f"{part}.parquet").to_pylist() for part in PARTS]
    return {(customers[r["customer"]], products[r["product"]], r["stars"], r["timestamp"]) for t in tables for r in t}


def written(folder: Path, name: str, text: str | bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- delimited text

TEXTS: dict[str, str | bytes] = {
    "a title above": "Our reviews of 2014\n\n" + lines(),
    "a title above, with the delimiters of a spreadsheet": "Reviews,,,\n,,,\n" + lines(),
    "the line in which Excel names the delimiter": "sep=;\n" + lines(separator=";"),
    "that line, and line ends of Windows": "sep=,\r\n" + lines().replace("\n", "\r\n"),
    "comments above, behind a mark": "\ufeff# exported\n# by a program\n" + lines(),
    "row numbers without a name": lines(
        ((n, *row) for n, row in enumerate(ROWS)), header=("", *HEADER)
    ),
    "row numbers that the header does not count, as R writes": '"user_id","item_id","rating","timestamp"\n'
    + "".join(f'"{n + 1}","{c}","{p}",{s},{t}\n' for n, (c, p, s, t) in enumerate(ROWS)),
    "a delimiter at the end of each row": lines().replace("\n", ",\n").replace("timestamp,", "timestamp"),
    "a delimiter at the end of each line": lines().replace("\n", ",\n"),
    "quotes behind blanks": "user_id, item_id, text, rating, timestamp\n"
    + "".join(f'"{c}", "{p}", "so, so", {s}, {t}\n' for c, p, s, t in ROWS),
    "quotes behind backslashes, as Spark and MySQL write": "text,user_id,item_id,rating,timestamp\n"
    + "".join(f'"it is \\"good\\", yes\\\\",{",".join(map(str, row))}\n' for row in ROWS),
    "carets": lines(separator="^"),
    "the control characters of Hive": lines(separator="\x01"),
    "blanks around": lines(separator=" , "),
    "a rule below the header, as psql prints": lines([("----",) * 4, *ROWS], separator=" | "),
    "UTF-16 without a mark": lines().encode("utf-16-be"),
    "carriage returns": lines().replace("\n", "\r"),
    "lines of delimiters": lines().replace("\n", "\n,,,\n"),
    "a quoted line break late": lines((("fine", *row) for row in ROWS * 9), header=("text", *HEADER))
    + f'"a\n\nb ""c""",{",".join(map(str, ROWS[0]))}\n',
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_table_of_text_is_read_with(tmp_path: Path, name: str) -> None:
    dataset, _ = told(written(tmp_path, "r.csv", TEXTS[name]), tmp_path)
    assert rows_of(dataset) == EXPECTED


def test_what_stands_above_the_header_is_said_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    text = "My reviews\n\n" + lines().replace("u0,p0,1,", "u0,p0,bad,")
    dataset, said = told(written(tmp_path, "r.csv", text), tmp_path)
    assert "above the header of " in said
    (refused,) = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert refused["line"] == 4


def test_a_line_above_that_may_be_a_header_is_not_passed_over(tmp_path: Path) -> None:
    other = lines().replace(",", ";", 3)  # the header alone has another delimiter
    with pytest.raises(AmzrecError, match="is not split like those after it"):
        told(written(tmp_path, "r.csv", other), tmp_path)


def test_a_review_without_stars_in_the_first_line_is_no_title(tmp_path: Path) -> None:
    text = "u0,,,\n" + lines(header=())
    with pytest.raises(AmzrecError, match="the columns u0"):  # it is taken for the header, and shown
        told(written(tmp_path, "r.csv", text), tmp_path)


# --- JSON

JSONS: dict[str, str] = {
    "lines with a mark, line ends of Windows": "\ufeff" + "\r\n".join(map(json.dumps, RECORDS)) + "\r\n",
    "an array": json.dumps(RECORDS),
    "an array over several lines": json.dumps(RECORDS, indent=2),
    "an array, one object per line": "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
    "an array in an object": json.dumps({"reviews": RECORDS}),
    "an array behind and before other values": json.dumps({"count": 45, "next": None, "results": RECORDS, "ok": True}),
    "objects without anything between": "".join(map(json.dumps, RECORDS)),
    "dicts of Python": "\n".join(repr({**record, "ok": True, "no": None, "text": "it's"}) for record in RECORDS),
    "dicts of Python 2": "\n".join(repr(record).replace(" '", " u'") for record in RECORDS),
    "keys in any order": "\n".join(json.dumps(dict(reversed(record.items()))) for record in RECORDS),
    "lists of objects inside": "\n".join(json.dumps({"images": [{"url": "x"}], **record}) for record in RECORDS),
    "values of MongoDB": "\n".join(
        json.dumps(
            {
                "_id": {"$oid": "f"}, "user_id": {"$oid": r["user_id"]}, "item_id": r["item_id"],
                "rating": {"$numberInt": str(r["rating"])}, "timestamp": {"$numberLong": str(r["timestamp"])},
            }
        )
        for r in RECORDS
    ),
    "records": "\n".join(
        json.dumps(
            {
                "user": {"id": r["user_id"]}, "item": {"id": r["item_id"]}, "review": {"stars": r["rating"]},
                "timestamp": r["timestamp"],
            }
        )
        for r in RECORDS
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JSONS)
def test_json_is_read_as(tmp_path: Path, name: str) -> None:
    columns = "customer=user.id,product=item.id,stars=review.stars,timestamp=timestamp"
    settings = {"columns": columns} if name == "records" else {}
    assert rows_of(told(written(tmp_path, "r.json", JSONS[name]), tmp_path, **settings)[0]) == EXPECTED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({name: [record[name] for record in RECORDS] for name in HEADER}), "one JSON object of columns"),
        (json.dumps({name: {str(n): r[name] for n, r in enumerate(RECORDS)} for name in HEADER}), "one JSON object of"),
        (json.dumps({"columns": HEADER, "data": [[*r.values()] for r in RECORDS]}), r"orient='records', lines=True"),
        (json.dumps([[*r.values()] for r in RECORDS]), "a JSON array without objects"),
        ("[]", "a JSON array without objects"),
        ("{}", "none of its first 1 lines is one JSON object"),
        ('{"user_id": ["a", "b"], "item_id": "p", "rating": 1}\n' * 3, "'user_id' of .* holds lists"),
    ],
)
def test_json_of_something_else_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AmzrecError, match=words) as refused:
        told(written(tmp_path, "r.json", text), tmp_path)
    assert len(str(refused.value)) < 700


# --- files and folders

TITLES = "item_id,title\n" + "".join(f"p{p},Rope {p}\n" for p in range(5))
PEOPLE = "user_id,age\n" + "".join(f"u{c},{c + 20}\n" for c in range(9))


def zipped(path: Path, files: dict[str, str | bytes]) -> Path:
    """Write a zip of files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, str]) -> Path:
    """Write a compressed tar of files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return path


def filled(folder: Path, files: dict[str, str]) -> Path:
    """Write the files of a folder."""
    for name, content in files.items():
        written(folder, name, content)
    return folder


def hive(folder: Path) -> Path:
    """Write the reviews into folders that name their stars."""
    for stars in range(1, 6):
        rows = [(c, p, t) for c, p, s, t in ROWS if s == stars]
        written(folder, f"rating={stars}/part.csv", lines(rows, ("user_id", "item_id", "timestamp")))
    return folder


RECBOLE = lines(header=("user_id:token", "item_id:token", "rating:float", "timestamp:float"), separator="\t")
SPARK = {"part-1.csv": lines(ROWS[:20]), "part-2.csv": lines(ROWS[20:]), "_SUCCESS": "", ".part-1.csv.crc": "x"}
PLACES: dict[str, Callable[[Path], Path | str]] = {
    "gz": lambda f: written(f, "r.csv.gz", gzip.compress(lines().encode())),
    "zst": lambda f: written(f, "r.csv.zst", pa.compress(lines().encode(), "zstd", asbytes=True)),
    "xz under another name": lambda f: written(f, "r.csv", lzma.compress(lines().encode())),
    "zip of reviews, products and people": lambda f: zipped(
        f / "r.zip", {"items.csv": TITLES, "ratings.csv": lines(), "users.csv": PEOPLE}
    ),
    "zip of a Mac": lambda f: zipped(f / "r.zip", {"__MACOSX/._r.csv": "junk", "r.csv": lines(), ".DS_Store": "x"}),
    "zip of compressed tables": lambda f: zipped(f / "r.zip", {"r.csv.gz": gzip.compress(lines().encode())}),
    "a name in a zip": lambda f: f"{zipped(f / 'r.zip', {'a.csv': TITLES, 'in/r.csv': lines()})}/in/r.csv",
    "tar": lambda f: tarred(f / "r.tar.gz", {"a.csv": TITLES, "r.csv": lines()}),
    "a folder of Spark": lambda f: filled(f / "d", SPARK),
    "a folder with an empty part": lambda f: filled(f / "d", {"a.csv": lines(), "b.csv": ""}),
    "folders of Hive": lambda f: hive(f / "d"),
    "a glob over folders of Hive": lambda f: f"{hive(f / 'd')}/*/*.csv",
    "a folder of RecBole": lambda f: filled(f / "d", {"x.inter": RECBOLE, "x.item": TITLES}),
    "a name with brackets": lambda f: written(f, "r [1].csv", lines()),
    "capitals in the ending": lambda f: filled(f / "d", {"R.CSV": lines(), "notes.txt": "nothing"}),
}


@pytest.mark.parametrize("name", PLACES)
def test_reviews_are_found_in(tmp_path: Path, name: str) -> None:
    assert rows_of(told(PLACES[name](tmp_path), tmp_path)[0]) == EXPECTED


def test_what_a_library_says_in_several_lines_is_one(tmp_path: Path) -> None:  # found by fuzzing
    (tmp_path / "r.parquet").write_bytes(b"PAR1" + bytes(40) + (40).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(AmzrecError, match="is a damaged Parquet file") as refused:
        told(tmp_path / "r.parquet", tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def test_products_beside_reviews_give_titles_which_is_said(tmp_path: Path) -> None:
    place = zipped(tmp_path / "r.zip", {"items.csv": TITLES, "r.csv": lines(), "people.csv": PEOPLE})
    dataset, said = told(place, tmp_path)
    assert sorted(dataset.products["title"].to_pylist()[1:]) == [f"Rope {p}" for p in range(5)]
    assert f"titles are from {place}/items.csv" in said
    assert "passed over: people.csv" in said


def test_parts_called_train_and_test_are_read_together_and_the_split_is_offered(tmp_path: Path) -> None:
    folder = filled(tmp_path / "d", {"train.csv": lines(ROWS[:30]), "test.csv": lines(ROWS[30:])})
    _, said = told(folder, tmp_path)
    assert f"{folder}/train.csv --split given --test-source {folder}/test.csv" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><body>Login", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a pointer of Git LFS.*git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"ARROW1\0\0", "Feather"),
        (b"\x80\x04\x95\x05", "a Python pickle"),
        (b"-- MySQL dump 10.13\n\nCREATE TABLE `r` (a int);\n", "a dump of a database.*mysql://"),
        (bytes(range(256)) * 9, "no text"),
        (b"1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n", "Netflix Prize.*awk"),
    ],
)
def test_what_is_no_table_is_named_for_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(AmzrecError, match=words) as refused:
        told(written(tmp_path, "r.csv", content), tmp_path)
    assert all(character.isprintable() for character in str(refused.value))


# --- columns


@pytest.mark.parametrize(
    ("customer", "product", "stars"),
    [
        ("user_id:token", "item_id:token", "rating:float"),
        ("user_id", "business_id", "stars"),
        ("customer_id", "article_id", None),
        ("user_id", "anime_id", "rating"),
        ("visitorid", "itemid", None),
        ("CustomerID", "StockCode", None),
        ("User-ID", "ISBN", "Book-Rating"),
        ("Username", "Game_ID", "Score"),
        ("USER", "ITEM", "RATING"),
        ("review_profilename", "beer_beerid", "review_overall"),
        ("author_steamid", "appid", None),
        ("customer_unique_id", "product_id", "review_score"),
        ("Kunde", "Produkt", "Bewertung"),
        ("cliente", "producto", "estrellas"),
    ],
)
def test_columns_are_known_by_their_names(customer: str, product: str, stars: str | None) -> None:
    wanted = {"customer_id": customer, "product_id": product} | ({"stars": stars} if stars else {})
    others = ["review_text", "price", "votes"]
    assert guessed_columns([*others, *reversed(wanted.values())]) == wanted


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("customer=user_id,customer=item_id,product=item_id", r"names customer twice \(user_id, item_id\)"),
        ("customer=user_id,product=user_id", "takes 'user_id' for the customer and for the product"),
        ("customer=usr_id,product=item_id", "did you mean user_id"),
        ("customer=xyz,product=item_id", r"does not have\. Its columns: user_id, item_id"),
        ("user=user_id,product=item_id", r"has 'user=user_id'; write customer\|product"),
        ("customer=user_id", "names no product"),
    ],
)
def test_a_role_or_a_column_given_twice_or_not_at_all_is_refused(columns: str, words: str) -> None:
    with pytest.raises(AmzrecError, match=words):
        named_columns(columns, Shape("csv", list(HEADER), 4), "r.csv")


def test_columns_may_be_named_in_other_letters(tmp_path: Path) -> None:
    columns = "customer=USER_ID,product=Item_Id,stars=Rating,timestamp=timestamp"
    assert rows_of(told(written(tmp_path, "r.csv", lines()), tmp_path, columns=columns)[0]) == EXPECTED


def test_a_suggestion_reuses_no_column_that_is_known(tmp_path: Path) -> None:
    text = lines(header=("timestamp", "visitorid", "code", "what"))
    with pytest.raises(AmzrecError, match="--columns customer=visitorid,product=code,stars=what"):
        told(written(tmp_path, "r.csv", text), tmp_path)


@pytest.mark.parametrize(
    ("name", "mentioned"), [("likert", True), ("opinion", True), ("play_hours", False), ("price", False)]
)
def test_a_column_that_looks_like_stars_and_is_not_used_is_mentioned(
    tmp_path: Path, name: str, mentioned: bool
) -> None:
    _, said = told(written(tmp_path, "r.csv", lines(header=("user_id", "item_id", name, "timestamp"))), tmp_path)
    assert (f"add stars={name} to --columns" in said) == mentioned


@pytest.mark.parametrize(
    ("header", "separator", "read"),
    [
        (["user", *(f"Film {p}" for p in range(12))], ",", "read_csv(FILE).rename(columns={'user': 'customer'})"),
        (["user", *"ABCDE"], "\t", r"read_csv(FILE, sep='\t').rename(columns={'user': 'customer'})"),
        ([], ",", "read_csv(FILE, header=None).rename(columns={0: 'customer'})"),
    ],
)
def test_a_matrix_of_customers_and_products_is_said_with_how_to_melt_it(
    tmp_path: Path, header: list[str], separator: str, read: str
) -> None:
    width = len(header) or 13
    rows = [[str(c), *("" if (c + p) % 3 == 2 else str(p % 5 + 1) for p in range(width - 1))] for c in range(20)]
    with pytest.raises(AmzrecError, match="looks like a matrix") as refused:
        told(written(tmp_path, "m.csv", lines(rows, header, separator)), tmp_path)
    assert read in str(refused.value)


def test_what_is_said_of_a_matrix_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the line of Python that the refusal gives, on its file, and read what it writes."""
    monkeypatch.chdir(tmp_path)
    matrix = [[f"u{c}", *((c + p) % 5 + 1 for p in range(5))] for c in range(9)]
    file = written(tmp_path, "m.csv", lines(matrix, ["user", *(f"p{p}" for p in range(5))]))
    with pytest.raises(AmzrecError, match="looks like a matrix") as refused:
        told(file, tmp_path)
    import pandas

    eval(str(refused.value).partition("in Python: ")[2], {"pandas": pandas, "FILE": str(file)})
    found = rows_of(told("reviews.csv", tmp_path)[0])
    assert found == {(customer, product, stars, None) for customer, product, stars, _ in EXPECTED}


CATALOGUES: dict[str, str] = {
    "ids of reviews": TITLES,
    "other letters": TITLES.replace("item_id,title", "ITEM_ID,TITLE"),
    "id and name": TITLES.replace("item_id,title", "id,name"),
    "business_id": TITLES.replace("item_id,title", "business_id,name").replace(",", ";"),
    "Book-Title": TITLES.replace("item_id,title", "ISBN,Book-Title").replace(",", ";"),
    "RecBole": TITLES.replace("item_id,title", "item_id:token,movie_title:token_seq").replace(",", "\t"),
    "StockCode": TITLES.replace("item_id,title", "StockCode,Description"),
    "a comment above": "# titles\n" + TITLES,
    "an array": json.dumps([{"item_id": f"p{p}", "title": f"Rope {p}"} for p in range(5)]),
}


@pytest.mark.parametrize("name", CATALOGUES)
def test_titles_are_read_with_the_names_of(tmp_path: Path, name: str) -> None:
    titles = written(tmp_path, "titles", CATALOGUES[name])
    dataset, said = told(written(tmp_path, "r.csv", lines()), tmp_path, titles=str(titles))
    assert sorted(dataset.products["title"].to_pylist()[1:]) == [f"Rope {p}" for p in range(5)]
    assert "has titles of 5 of the 5 products that have reviews" in said


def test_titles_that_match_nothing_are_warned_of_and_files_without_titles_refused(tmp_path: Path) -> None:
    reviews = written(tmp_path, "r.csv", lines())
    others = written(tmp_path, "t.csv", TITLES.replace("\np", "\n000"))
    dataset, said = told(reviews, tmp_path, titles=str(others))
    assert "has a title of none of the 5 products that have reviews: reviews have ids such as 'p" in said
    assert any("a title of none" in warning for warning in dataset.info.warnings)
    for text, words in {
        "item_id,price\np1,3\n": r"names no product: .* Its columns: item_id, price",
        "foo,bar\np1,One\n": r"names no product: .* Its columns: foo, bar",
        "": "is empty",
    }.items():
        with pytest.raises(AmzrecError, match=words):
            told(reviews, tmp_path, titles=str(written(tmp_path, "x.csv", text)))
    with pytest.raises(AmzrecError, match=r"--titles: there is no file .*name a file of products"):
        told(reviews, tmp_path, titles="nothing.csv")


# --- what may be read two ways is said


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_fields_in_single_quotes_are_read_without_them(tmp_path: Path, suffix: str) -> None:
    lines = [
        "'user','item','rating','title'",
        *(f"'u{i}','p{i % 7}',{i % 5 + 1},'It''s a, \"b\" {i % 7}'" for i in range(30)),
    ]
    text = "\n".join(lines) + "\n"
    if suffix == "tsv":
        text = text.replace("a, ", "a; ").replace(",", "\t")
    (tmp_path / f"r.{suffix}").write_text(text)
    voice = Voice()
    columns = "customer=user,product=item,stars=rating,title=title"
    dataset = prepare(tmp_path / f"r.{suffix}", tmp_path / "d", PrepareConfig(columns=columns), progress=voice)
    assert dataset.info.counts.kept == 30
    assert set(dataset.customers["customer_id"].to_pylist()) == {"", *(f"u{i}" for i in range(30))}
    assert f'It\'s a{";" if suffix == "tsv" else ","} "b" 3' in dataset.products["title"].to_pylist()
    assert any("stand in single quotes" in line for line in voice.lines)


def test_an_apostrophe_is_no_quote(tmp_path: Path) -> None:
    lines = ["user,item,rating", *(f"u{i},'p{i % 7},{i % 5 + 1}" for i in range(29)), "o'u','p1',3"]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    dataset = prepare(tmp_path / "r.csv", tmp_path / "d")
    assert {"'p3", "'p1'"} <= set(dataset.products["product_id"].to_pylist())
    assert "o'u'" in dataset.customers["customer_id"].to_pylist()


def test_of_two_columns_of_customers_it_is_said_which_is_taken_where_they_differ(tmp_path: Path) -> None:
    for other, told in ((100, True), (0, False)):
        lines = [
            "user_id,customer_id,item_id,rating",
            *(f"{i % 9},{i % 9 + other},p{i % 7},{i % 5 + 1}" for i in range(60)),
        ]
        (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
        voice = Voice()
        dataset = prepare(tmp_path / "r.csv", tmp_path / "d", overwrite=True, progress=voice)
        assert set(dataset.customers["customer_id"].to_pylist()) == {"", *(str(i + other) for i in range(9))}
        said = [line for line in voice.lines if "the customer is 'customer_id'; 'user_id' has other values" in line]
        assert bool(said) == told
    assert not any("customer=user_id" in line for line in voice.lines)


def test_named_files_of_other_columns_are_refused_with_how_they_differ(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,rating\n" + "".join(f"u{i % 9},p{i % 7},3\n" for i in range(40)))
    (tmp_path / "b.csv").write_text("client,sku,rating\n" + "".join(f"u{i % 9},p{i % 7},3\n" for i in range(40)))
    with pytest.raises(
        AmzrecError, match=r"a\.csv they are 'user' and 'item'; in .*b\.csv they are 'client' and 'sku'"
    ):
        prepare([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "d")
    with pytest.raises(AmzrecError, match="holds 2 kinds of tables"):
        prepare(tmp_path, tmp_path / "out")
