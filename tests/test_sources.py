"""Every layout from a few literal lines: what is read, and what is refused with which words."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import checks, engines, sources
from amzrec.reviews.engines.protocol import Engine, union
from amzrec.reviews.relation import Source
from amzrec.reviews.sources import catalogue, layouts, location

US_REVIEWS = (
    "marketplace\tcustomer_id\treview_id\tproduct_id\tproduct_parent\tproduct_title\tproduct_category\tstar_rating\t"
    "helpful_votes\ttotal_votes\tvine\tverified_purchase\treview_headline\treview_body\treview_date\n"
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engines.connect(tmp_path_factory.mktemp("engine"))


def opened(engine: Engine, file: Path | str, **settings: Any) -> tuple[Source, list[dict[str, Any]]]:
    """The source and its checked rows, in no order."""
    scratch = Path(str(file) + ".scratch")
    scratch.mkdir(exist_ok=True)
    source = sources.open_source(engine, str(file), PrepareConfig(**settings), scratch)
    tables = [checks.checked(source, part, "id") for part in source.parts]
    return source, engine.fetch(union(tables)).to_pylist()


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def brief(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["customer_id"], row["product_id"], row["stars"], row["timestamp"]


@pytest.mark.parametrize("layout", layouts.LAYOUTS, ids=lambda layout: layout.name)
def test_the_example_of_each_layout_is_known_by_its_columns_and_read(
    engine: Engine, tmp_path: Path, layout: layouts.Layout
) -> None:
    source, rows = opened(engine, write(tmp_path / "reviews", layout.example))
    assert source.format == layout.name
    assert source.columns == layout.columns
    assert [row["reason"] for row in rows] == [None]
    assert [row["undated"] for row in rows] == [False]
    assert [name for name in layout.columns if name in rows[0] and rows[0][name] is None] == []


def test_the_amazon_tsv_keeps_quotes_leading_zeros_and_the_text_na(engine: Engine, tmp_path: Path) -> None:
    file = write(
        tmp_path / "reviews.tsv",
        US_REVIEWS
        + 'US\t007\tR1\tB01\t42\tNA\tBaby\t5\t0\t0\tN\tY\tit"s\tfine\t2015-08-31\n'
        + 'US\t7\tR2\tB02\t43\t"a" 5" lamb\tBaby\t1\t0\t0\tN\tY\t"\tno\t1970-01-02\n',
    )
    source, rows = opened(engine, file)
    assert source.format == "amazon-us-reviews"
    assert {brief(row) for row in rows} == {("007", "B01", 5.0, 1440979200), ("7", "B02", 1.0, 86400)}
    assert {row["product_title"] for row in rows} == {"NA", '"a" 5" lamb'}


def test_the_amazon_tsv_resaved_by_a_spreadsheet_reads_the_same(engine: Engine, tmp_path: Path) -> None:
    head = US_REVIEWS.strip().replace("\t", ",")
    file = write(
        tmp_path / "reviews.csv",
        f'{head}\r\nUS,7,R1,B01,42,"Lamb, ""soft""",Baby,5,0,0,N,Y,good,"fine, yes",8/31/2015\r\n'
        "US,8,R2,B02,43,Cow,Baby,4,0,0,N,Y,good,fine,12/1/2014\r\n",
    )
    source, rows = opened(engine, file)
    assert source.format == "amazon-us-reviews"
    assert {brief(row) for row in rows} == {("7", "B01", 5.0, 1440979200), ("8", "B02", 4.0, 1417392000)}
    assert {row["product_title"] for row in rows} == {'Lamb, "soft"', "Cow"}


def test_the_2014_and_2018_ratings_are_told_apart_by_which_column_looks_like_asins(
    engine: Engine, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "2014.csv", "A1KLRMWW2FWPL4,0132793040,5.0,1365811200\nA2CX7LUOHB2NDG,B000000001,1.0,13410000"
    )
    source, rows = opened(engine, file)
    assert source.format == "amazon-2014"
    assert ("A1KLRMWW2FWPL4", "0132793040", 5.0, 1365811200) in map(brief, rows)
    file = write(
        tmp_path / "2018.csv", "B00005N7P0,AH2IFH762VY5U,5.0,1005177600\n0000000012,AOSFI0JEYU4XM,4.0,1004486400"
    )
    source, rows = opened(engine, file)
    assert source.format == "amazon-2018"
    assert ("AH2IFH762VY5U", "B00005N7P0", 5.0, 1005177600) in map(brief, rows)
    assert "the first column of 2018.csv is taken for the products" in source.notes[0]
    _, rows = opened(engine, file, format="amazon-2014")
    assert ("B00005N7P0", "AH2IFH762VY5U", 5.0, 1005177600) in map(brief, rows)


def test_the_json_lines_of_2014_and_2018(engine: Engine, tmp_path: Path) -> None:
    lines = [
        {"reviewerID": "A1", "asin": "0001", "overall": 4.0, "unixReviewTime": 1393372800, "summary": 'it"s {ok}'},
        {"reviewerID": "NA", "asin": "B2", "overall": 5.0, "unixReviewTime": 86400, "vote": "3"},
    ]
    file = tmp_path / "reviews.json.gz"
    file.write_bytes(gzip.compress("\n".join(json.dumps(line) for line in lines).encode()))
    source, rows = opened(engine, file)
    assert source.format == "amazon-json"
    assert {brief(row) for row in rows} == {("A1", "0001", 4.0, 1393372800), ("NA", "B2", 5.0, 86400)}


def test_the_json_lines_of_2023_are_in_milliseconds_and_their_title_is_no_product_title(
    engine: Engine, tmp_path: Path
) -> None:
    line = {
        "rating": 1.0,
        "title": "USELESS",
        "asin": "B1",
        "parent_asin": "B9",
        "user_id": "AE",
        "timestamp": 1602133857705,
    }
    source, rows = opened(engine, write(tmp_path / "r.jsonl", json.dumps(line) + "\n\n"))
    assert source.format == "amazon-2023"
    assert "product_parent" in source.has
    assert [brief(row) for row in rows] == [("AE", "B1", 1.0, 1602133857)]
    assert rows[0]["product_title"] is None


def test_the_tables_of_2023_have_the_parent_only(engine: Engine, tmp_path: Path) -> None:
    columns = {"user_id": ["AE"], "parent_asin": ["B9"], "rating": [2.0], "timestamp": [1602133857705]}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    source, rows = opened(engine, tmp_path / "r.parquet")
    assert (source.format, [brief(row) for row in rows]) == ("amazon-2023", [("AE", "B9", 2.0, 1602133857)])
    text = "user_id,parent_asin,rating,timestamp\nAE,B9,2.0,1602133857705\n"
    source, rows = opened(engine, write(tmp_path / "r.csv", text))
    assert (source.format, [brief(row) for row in rows]) == ("amazon-2023", [("AE", "B9", 2.0, 1602133857)])


def movielens_100k(folder: Path) -> Path:
    folder.mkdir()
    write(folder / "u.data", "1\t10\t5\t881250949\n2\t10\t1\t891717742\n")
    write(folder / "u.genre", "unknown|0\nAction|1\nComedy|2\n\n")
    write(
        folder / "u.item",
        "10|Misérables, Les (1995)|01-Jan-1995||http://x|0|1|1\n11|unknown||||1|0|0\n".encode("latin-1"),
    )
    write(folder / "u.user", "1|24|M|technician|85711\n2|53|F|writer|94043\n")
    return folder


def test_movielens_100k_with_latin_titles_genres_year_and_customers(engine: Engine, tmp_path: Path) -> None:
    folder = movielens_100k(tmp_path / "ml-100k")
    source, rows = opened(engine, folder)
    assert source.format == "movielens-100k"
    assert {brief(row) for row in rows} == {("1", "10", 5.0, 881250949), ("2", "10", 1.0, 891717742)}
    assert source.products["10"] == ("Misérables, Les (1995)", ["genre=Action", "genre=Comedy", "year=1995"])
    assert source.products["11"] == ("unknown", [])
    assert source.customers["2"][1] == ["age=53", "gender=F", "occupation=writer"]


def test_movielens_100k_may_lack_its_last_columns(engine: Engine, tmp_path: Path) -> None:
    folder = movielens_100k(tmp_path / "ml-100k")
    write(folder / "u1.base", "1\t10\t5\n2\t10\t1\n")
    source, rows = opened(engine, folder / "u1.base")
    assert source.format == "movielens-100k"
    assert {brief(row) for row in rows} == {("1", "10", 5.0, None), ("2", "10", 1.0, None)}


def test_a_zip_reads_as_the_folder_in_it(engine: Engine, tmp_path: Path) -> None:
    folder = movielens_100k(tmp_path / "ml-100k")
    with zipfile.ZipFile(tmp_path / "ml-100k.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"ml-100k/{file.name}")
    source, rows = opened(engine, tmp_path / "ml-100k.zip")
    assert (source.format, len(rows), len(source.products)) == ("movielens-100k", 2, 2)


def test_a_damaged_zip_is_an_error(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match="damaged zip"):
        opened(engine, write(tmp_path / "x.zip", "PK nonsense"))


def test_movielens_1m_with_double_colons(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "ratings.dat", "1::1193::5::978300760\n1::1194::3::978302109\n")
    write(tmp_path / "movies.dat", "1193::Café Müller: a::b (1975)::Drama|War\n".encode("latin-1"))
    write(tmp_path / "users.dat", "1::F::1::10::48067\n")
    source, rows = opened(engine, tmp_path)
    assert source.format == "movielens-1m"
    assert {brief(row) for row in rows} == {("1", "1193", 5.0, 978300760), ("1", "1194", 3.0, 978302109)}
    assert source.products["1193"] == ("Café Müller: a::b (1975)", ["genre=Drama", "genre=War", "year=1975"])
    assert source.customers["1"][1] == ["age=1", "gender=F", "occupation=K-12 student"]


def test_movielens_latest_has_half_stars(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,2,0.5,964982703\n1,3,5.5,964982703\n")
    write(tmp_path / "movies.csv", 'movieId,title,genres\n2,"Tin, The (2001)",(no genres listed)\n')
    source, rows = opened(engine, tmp_path)
    assert (source.format, source.scale) == ("movielens-latest", (0.5, 5.0))
    assert {row["product_id"]: row["reason"] for row in rows} == {"2": None, "3": checks.OFF_SCALE}
    assert source.products["2"] == ("Tin, The (2001)", ["year=2001"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "UserId,ItemId,Score,When\nu1,p1,4,10\nu2,p2,3,20\n"),
        ("a.tsv", "UserId\tItemId\tScore\tWhen\nu1\tp1\t4\t10\nu2\tp2\t3\t20\n"),
        ("semicolons.csv", "UserId;ItemId;Score;When\nu1;p1;4;10\nu2;p2;3;20\n"),
        ("bom.csv", "\ufeffUserId,ItemId,Score,When\r\nu1,p1,4,10\r\n\r\nu2,p2,3,20\r\n"),
        ("quoted.csv", '"UserId","ItemId","Score","When"\n"u1","p1","4","10"\n"u2","p2","3","20"\n'),
        (
            "a.jsonl",
            '{"UserId":"u1","ItemId":"p1","Score":4,"When":10}\n{"UserId":"u2","ItemId":"p2","Score":"3","When":20}',
        ),
    ],
)
def test_any_table_with_its_columns_named(engine: Engine, tmp_path: Path, name: str, text: str) -> None:
    columns = "customer=UserId,product=ItemId,stars=Score,timestamp=When"
    source, rows = opened(engine, write(tmp_path / name, text), columns=columns)
    assert source.format == "table"
    assert {brief(row) for row in rows} == {("u1", "p1", 4.0, 10), ("u2", "p2", 3.0, 20)}


def test_columns_of_a_file_without_a_header_are_counted_from_0(engine: Engine, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "9,u1,p1,4\n9,u2,p2,3\n")
    _, rows = opened(engine, file, columns="customer=1,product=2,stars=3")
    assert {brief(row) for row in rows} == {("u1", "p1", 4.0, None), ("u2", "p2", 3.0, None)}


def test_numbered_columns_take_the_first_line_as_a_review_unless_it_names_columns(
    engine: Engine, tmp_path: Path
) -> None:
    _, rows = opened(engine, write(tmp_path / "clicks.csv", "anna,tent\nbert,rope\n"), columns="customer=0,product=1")
    assert {brief(row)[:2] for row in rows} == {("anna", "tent"), ("bert", "rope")}
    _, rows = opened(engine, write(tmp_path / "named.csv", "user,item\nbert,rope\n"), columns="customer=0,product=1")
    assert [brief(row)[:2] for row in rows] == [("bert", "rope")]


def test_a_table_without_stars_is_all_clicks(engine: Engine, tmp_path: Path) -> None:
    _, rows = opened(engine, write(tmp_path / "a.csv", "customer,product\nu1,p1\nu2,p2\n"))
    assert {brief(row) for row in rows} == {("u1", "p1", None, None), ("u2", "p2", None, None)}
    assert {row["reason"] for row in rows} == {None}


def test_quoted_text_may_go_over_lines(engine: Engine, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.csv", 'user,text,item,rating\nu1,"two\nlines, ""yes""",p1,4\nu2,one,p2,3\nu3,"x\n\ny",p3,2\n'
    )
    _, rows = opened(engine, file)
    assert {brief(row)[:3] for row in rows} == {("u1", "p1", 4.0), ("u2", "p2", 3.0), ("u3", "p3", 2.0)}


def test_names_that_say_what_they_are_need_no_columns(engine: Engine, tmp_path: Path) -> None:
    source, rows = opened(engine, write(tmp_path / "a.csv", "User ID,Item_Id,Rating,Title\nu1,p1,4,x\n"))
    assert source.columns == {"customer_id": "User ID", "product_id": "Item_Id", "stars": "Rating"}
    assert brief(rows[0]) == ("u1", "p1", 4.0, None)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1440979200", 1440979200),
        ("1440979200000", 1440979200),
        ("2015-08-31", 1440979200),
        ("2015-08-31 00:00:05", 1440979205),
        ("2015-08-31T00:00:05Z", 1440979205),
        ("8/31/2015", 1440979200),
        ("08/31/2015", 1440979200),
        ("08 31, 2015", 1440979200),
        ("yesterday", None),
        ("31/31/2015", None),
        ("-1", -1),
        ("-9223372036854775808", -9223372037),  # the least of 64 bits, whose absolute value they do not hold
    ],
)
def test_times_in_seconds_milliseconds_iso_and_american_form(
    engine: Engine, tmp_path: Path, written: str, seconds: int | None
) -> None:
    _, rows = opened(engine, write(tmp_path / "a.csv", f'customer,product,timestamp\nu,p,"{written}"\n'))
    assert rows[0]["timestamp"] == seconds
    assert rows[0]["undated"] == (seconds is None)


@pytest.mark.parametrize("stars", ["good", "nan", "inf", "1e400", "4,5", "five", ""])
def test_stars_that_are_no_number_are_refused(engine: Engine, tmp_path: Path, stars: str) -> None:
    line = {"reviewerID": "A", "asin": "B", "overall": stars, "unixReviewTime": 1}
    _, rows = opened(engine, write(tmp_path / "r.jsonl", json.dumps(line)))
    assert [row["reason"] for row in rows] == [checks.NO_STARS]


def test_several_files_a_folder_and_a_glob_are_one_source(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    write(folder / "a.csv", "user,item,rating\nu1,p1,4\n")
    write(folder / "b.csv", "item,rating,user\np2,3,u2\n")
    write(folder / "README.md", "not a table")
    for source in (folder, f"{folder}/*.csv"):
        _, rows = opened(engine, source)
        assert {brief(row)[:3] for row in rows} == {("u1", "p1", 4.0), ("u2", "p2", 3.0)}
    write(folder / "c.csv", "user,item,stars\nx,red,3\n")
    with pytest.raises(AmzrecError, match=r"c\.csv is not of the kind of .*a\.csv \(no column 'rating'\)"):
        opened(engine, folder)
    with pytest.raises(AmzrecError, match="no file matches"):
        opened(engine, f"{folder}/*.parquet")


def test_a_gzip_cut_short_is_an_error(engine: Engine, tmp_path: Path) -> None:
    whole = gzip.compress(b"user,item,rating\n" + b"".join(b"u%d,p%d,4\n" % (i, i * 7919) for i in range(20000)))
    file = write(tmp_path / "a.csv.gz", whole[: len(whole) // 2])
    with pytest.raises(AmzrecError, match=r"cut short or damaged.*download it again"):
        opened(engine, file)


def test_a_damaged_parquet_file_is_an_error(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match="damaged Parquet"):
        opened(engine, write(tmp_path / "a.parquet", b"PAR1 and then nonsense"))


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("", {}, "is empty"),
        ("\n\n", {}, "is empty"),
        ("hello\nworld\n", {}, "is no table"),
        ("[1,2]\n[3,4]\n", {}, "no known layout: it is delimited text with 2 columns without a header|no known layout"),
        ("{broken\n{also\n", {}, "none of its first 2 lines is one JSON object"),
        ("a,b\n1,2\n", {}, r"--columns customer=a,product=b"),
        ("UserId,ItemId\nu,p\n", {"columns": "customer=UserIds,product=ItemId"}, "did you mean UserId\\?"),
        ("UserId,ItemId\nu,p\n", {"columns": "customer=UserId"}, "names no product"),
        ("UserId,ItemId\nu,p\n", {"columns": "buyer=UserId"}, "--columns has 'buyer=UserId'"),
        ("1,2,3\n4,5,6\n", {"columns": "customer=0,product=9"}, "names '9'.*0, 1, 2"),
        ("a,b\n1,2\n", {"format": "netflix"}, "--format is 'netflix'; allowed: amazon-us-reviews"),
        ("a,b\n1,2\n", {"format": "amazon-json"}, "has no column 'reviewerID'"),
    ],
)
def test_what_cannot_be_read_says_why_and_what_to_type(
    engine: Engine, tmp_path: Path, text: str, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(AmzrecError, match=words):
        opened(engine, write(tmp_path / "a.csv", text), **settings)


def test_a_folder_of_something_else_says_what_it_holds(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    write(tmp_path / "photos" / "cat.jpg", "x")
    with pytest.raises(AmzrecError, match=r"no known layout \(it holds cat.jpg\)"):
        opened(engine, tmp_path / "photos")


def test_titles_come_from_metadata_without_page_source_and_with_entities_decoded(tmp_path: Path) -> None:
    lines = [
        {
            "asin": "B1",
            "title": '<span class="a-size-medium',
            "brand": "Acme",
            "category": ["Music", "Arts &amp; Crafts"],
        },
        {"asin": "B1", "title": "Salt &amp; Pepper", "brand": "", "category": []},
        {"asin": "B2", "title": "NA", "category": ["Music", "x" * 200, "<b>"]},
    ]
    file = tmp_path / "meta.json.gz"
    file.write_bytes(gzip.compress(("\n".join(json.dumps(line) for line in lines) + "\nnot json\n").encode()))
    facts = catalogue.read_titles(file)
    assert facts["B1"] == ("Salt & Pepper", ["brand=Acme", "category=Music", "category=Arts & Crafts"])
    assert facts["B2"] == ("NA", ["category=Music"])
    facts = catalogue.read_titles(
        write(tmp_path / "meta2014.json", "{'asin': '0001', 'title': \"It's\", 'categories': [['Toys']]}")
    )
    assert facts == {"0001": ("It's", ["category=Toys"])}
    facts = catalogue.read_titles(write(tmp_path / "t.csv", 'product_id,title\np1,"Rope, long"\n'))
    assert facts == {"p1": ("Rope, long", [])}
    with pytest.raises(AmzrecError, match="names no product"):
        catalogue.read_titles(write(tmp_path / "u.csv", "colour,size\nred,5\n"))


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.csv", "user,item\nu,p\n")
    first = location.fingerprint_of(str(tmp_path / "one" / "a.csv"))
    assert location.fingerprint_of(str(tmp_path / "two" / "a.csv")) == first
    write(tmp_path / "two" / "a.csv", "user,item\nu,q\n")
    assert location.fingerprint_of(str(tmp_path / "two" / "a.csv")) != first


def test_blank_lines_before_the_header_are_no_header(engine: Engine, tmp_path: Path) -> None:
    _, rows = opened(engine, write(tmp_path / "a.csv", "\n\nuser,item,rating\nu1,p1,4\n\nu2,p2,5\n"))
    assert {brief(row)[:3] for row in rows} == {("u1", "p1", 4.0), ("u2", "p2", 5.0)}
    assert {row["reason"] for row in rows} == {None}


def test_a_gzip_file_of_another_name_is_read_as_one(engine: Engine, tmp_path: Path) -> None:
    line = {"reviewerID": "A1", "asin": "0001", "overall": 4.0, "unixReviewTime": 1393372800}
    _, rows = opened(engine, write(tmp_path / "reviews", gzip.compress(json.dumps(line).encode())))
    assert [brief(row) for row in rows] == [("A1", "0001", 4.0, 1393372800)]
