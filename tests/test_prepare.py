"""prepare as a whole: from literal files to the arrays, the tables, the counts and the rejects."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError
from amzrec.reviews import titles
from amzrec.reviews.cache import dataset_of
from amzrec.reviews.engines import duckdb
from amzrec.reviews.preparation import Preparation
from amzrec.reviews.sources import blocks
from amzrec.reviews.sources.origin import Origin
from amzrec.store.dataset import NO_TIME, Dataset, Scale, is_dataset, open_dataset
from conftest import ROOT

ALL_TRAIN: Any = {"valid": 0, "test": 1e-9}  # nothing held out
HEAD = "customer,product,stars,timestamp,product_title,product_category\n"


def prepared(folder: Path, text: str | bytes, **settings: Any) -> Dataset:
    folder.mkdir(exist_ok=True)
    file = folder / "reviews.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return prepare(file, folder / "out", PrepareConfig(**settings), overwrite=True)


def read(folder: Path, text: bytes, **settings: Any) -> Preparation:
    """The first stage alone: the counts, and rejects.parquet in its folder."""
    file = folder / "reviews.csv"
    file.write_bytes(text)
    (folder / "out").mkdir()
    work = Preparation(Origin(str(file), (str(file),)), PrepareConfig(**settings), folder / "out", SILENT)
    with work.engine.working("reviews.csv", folder):
        work.open_sources()
        work.read()
    return work


def reviews_of(dataset: Dataset) -> set[tuple[str, str, float, int]]:
    """All kept reviews, decoded."""
    customers, products = dataset.customers["customer_id"].to_pylist(), dataset.products["product_id"].to_pylist()
    found = [
        (customers[c], products[p], float(s), int(t))
        for part in (dataset.train, dataset.valid, dataset.test)
        for c, p, s, t in zip(part.customer, part.product, part.stars, part.timestamp, strict=True)
    ]
    assert len(found) == len(set(found))
    return set(found)


def test_of_a_pair_reviewed_twice_the_latest_then_the_highest_stays(tmp_path: Path) -> None:
    text = HEAD + "u,p,1,10,,\nu,p,2,20,,\nu,p,4,20,,\nu,p,5,,,\nu,q,3,,,\nu,q,3,,,\nv,p,5,7,,\n"
    dataset = prepared(tmp_path, text)
    assert reviews_of(dataset) == {("u", "p", 4.0, 20), ("u", "q", 3.0, NO_TIME), ("v", "p", 5.0, 7)}
    counts = dataset.info.counts
    assert (counts.read, counts.duplicates, counts.repeats, counts.kept) == (7, 1, 3, 3)


def test_row_0_is_unknown_and_rows_go_by_train_count_then_id(tmp_path: Path) -> None:
    text = HEAD + "".join(f"{u},{p},5,1,,\n" for u, p in map(tuple, ["bc", "bd", "ac", "ad", "ae", "zc"]))
    dataset = prepared(tmp_path, text, **ALL_TRAIN)
    assert dataset.customers["customer_id"].to_pylist() == ["", "a", "b", "z"]
    assert dataset.customers["count"].to_pylist() == [0, 3, 2, 1]
    assert dataset.products["product_id"].to_pylist() == ["", "c", "d", "e"]
    assert dataset.products["row"].to_pylist() == [0, 1, 2, 3]
    assert dataset.products["title"].to_pylist() == [None] * 4


def test_the_tables_count_train_only_and_list_the_others_after_it(tmp_path: Path) -> None:
    base, test = tmp_path / "base.csv", tmp_path / "test.csv"
    base.write_text("customer,product,stars\nz,m,5\nz,n,4\n")
    test.write_text("customer,product,stars\na,b,1\nz,b,2\n")
    dataset = prepare(base, tmp_path / "out", PrepareConfig(split="given", test_source=str(test), valid=0))
    assert dataset.customers["customer_id"].to_pylist() == ["", "z", "a"]
    assert dataset.products["product_id"].to_pylist() == ["", "m", "n", "b"]
    assert dataset.products["count"].to_pylist() == [0, 1, 1, 0]
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (2, 0, 2)


def test_given_test_reviews_are_taken_out_of_train_and_it_is_said(tmp_path: Path) -> None:
    base, test = tmp_path / "base.csv", tmp_path / "test.csv"
    base.write_text("customer,product,stars\nu,p,5\nu,q,4\nu,r,3\n")
    test.write_text("customer,product,stars\nu,q,4\n")
    dataset = prepare(base, tmp_path / "out", PrepareConfig(split="given", test_source=str(test), valid=0))
    assert (len(dataset.train), len(dataset.test)) == (2, 1)
    assert "1 reviews are also among the test reviews" in dataset.info.warnings[0]


def test_titles_categories_and_tokens_come_from_the_reviews(tmp_path: Path) -> None:
    rows = ["a,p,5,1,Salt &amp; Pepper,Food", "b,p,5,1,Salt &amp; Pepper,Food", "c,p,5,1,Other,Toys", "d,q,5,1,,"]
    dataset = prepared(tmp_path, HEAD + "\n".join(rows), columns=columns(), **ALL_TRAIN)
    product = dataset.products.to_pylist()[1]
    assert (product["title"], product["features"]) == ("Salt & Pepper", ["category=Food"])
    assert product["tokens"] == [zlib.crc32(word) & 0x7FFFFFFF for word in (b"salt", b"pepper")]
    assert dataset.products.to_pylist()[2]["title"] is None


def columns() -> str:
    names = ("customer=customer", "product=product", "stars=stars", "timestamp=timestamp")
    return ",".join((*names, "title=product_title", "category=product_category"))


def test_the_product_key_title_joins_products_of_one_title(tmp_path: Path) -> None:
    text = HEAD + "a,p1,5,1,Rope,\nb,p2,4,1,Rope,\nc,p3,3,1,Axe,\n" + "d,p4,3,1,,\n"
    dataset = prepared(tmp_path, text, columns=columns(), product_key="title", max_rejects=0.5, **ALL_TRAIN)
    assert dataset.products["product_id"].to_pylist() == ["", "Rope", "Axe"]
    assert dataset.info.counts.rejected == {"no product title": 1}
    assert dataset.protocol.product_key == "title"


def test_the_product_key_title_looks_titles_up_in_metadata(tmp_path: Path) -> None:
    titles = tmp_path / "titles.csv"
    titles.write_text("product_id,title\np1,Rope\np2,Rope\np3,Axe\np9,Tent\n")
    text = "customer,product,stars\na,p1,5\nb,p2,4\nc,p3,3\nd,p4,3\n"
    settings = {"product_key": "title", "titles": str(titles), "max_rejects": 0.5, **ALL_TRAIN}
    dataset = prepared(tmp_path, text, **settings)
    assert dataset.products["product_id"].to_pylist() == ["", "Rope", "Axe", "Tent"]
    rejects = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert [(r["line"], r["reason"], r["text"]) for r in rejects] == [(5, "no product title", "d,p4,3")]


@pytest.mark.parametrize(
    ("key", "words"), [("parent", "has no parent column; take id"), ("title", "add --titles FILE")]
)
def test_a_product_key_that_the_source_has_not_is_an_error(tmp_path: Path, key: str, words: str) -> None:
    with pytest.raises(AmzrecError, match=words):
        prepared(tmp_path, "customer,product\nu,p\n", product_key=key)


def test_every_refused_line_stands_in_rejects_with_its_number_reason_and_text(tmp_path: Path) -> None:
    lines = [
        b"user_id,parent_asin,rating,timestamp",  # 1
        b"u1,p1,5,10",
        b"",
        b"u2,p2",  # 4: ragged
        b"u3,p3,6,10",  # 5: off the scale
        b"u4,p\xff4,5,10",  # 6: not UTF-8
        b",p5,5,10",  # 7: no customer
        b"u6,,5,10",  # 8: no product
        b'u7,"p7,5,10',  # 9: unbalanced
        b"u8,p8,good,10",  # 10: no number
        b"u9,p9,1,10,extra",  # 11: ragged
        b"u1,p2,4,11",
        b"",
    ]
    dataset = prepared(tmp_path, b"\n".join(lines), max_rejects=1, encoding="utf-8")
    found = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert [(r["line"], r["reason"]) for r in found] == [
        (4, "not the number of fields of the header"),
        (5, "stars off the scale"),
        (6, "not UTF-8"),
        (7, "no customer"),
        (8, "no product"),
        (9, "unbalanced quotes"),
        (10, "stars are no number"),
        (11, "not the number of fields of the header"),
    ]
    assert found[0]["text"] == "u2,p2"
    assert found[2]["text"] == "u4,p\ufffd4,5,10"
    assert {Path(r["file"]).name for r in found} == {"reviews.csv"}
    counts = dataset.info.counts
    assert (counts.read, counts.kept, sum(counts.rejected.values())) == (10, 2, 8)


field = st.sampled_from([b"a", b"4", b"", b'"', b"\xff", "\u00e9".encode(), b"\\"])
# a few files of many lines: a file takes half a second, a line nothing
dirty = st.lists(st.lists(field, min_size=0, max_size=6).map(b"\t".join), min_size=12, max_size=40)


@pytest.mark.slow
@pytest.mark.parametrize("block", [None, *(pytest.param(n, marks=pytest.mark.long) for n in (64, 1 << 20))])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=dirty, end=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans())
@example(lines=[b"\t", b"\t\t\t", b"\t\xff\t", b"\t4\t\t", b"a\t\tb\t4"], end=b"\r\n", last=True)
def test_what_is_refused_of_a_tab_separated_file_is_what_its_lines_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int | None, lines: list[bytes], end: bytes, last: bool
) -> None:
    if block:  # as large files are read, in blocks of so many bytes
        monkeypatch.setattr(blocks, "LARGE", 0)
        monkeypatch.setattr(blocks, "BLOCK", block)
    good = [b"u\t\tp\t5"] * 45  # at least half of the lines, or it would be no table
    lines = [b"user_id\tother\tparent_asin\trating", *good, *lines]
    expected = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split(b"\t")
        if not line.strip(b"\t"):  # nothing but delimiters
            continue
        if b"\xff" in line:
            expected.append((number, "not UTF-8"))
        elif len(fields) != 4:
            expected.append((number, "not the number of fields of the header"))
        elif not fields[0]:
            expected.append((number, "no customer"))
        elif not fields[2]:
            expected.append((number, "no product"))
        elif fields[3] not in (b"4", b"5"):
            expected.append((number, "stars are no number"))
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        work = read(Path(folder), end.join(lines) + (end if last else b""), max_rejects=1, encoding="utf-8")
        found = pq.read_table(work.folder / "rejects.parquet").to_pylist()
        assert [(r["line"], r["reason"]) for r in found] == expected
        assert sum(work.counts["rejected"].values()) == len(expected)
        assert work.counts["read"] == sum(bool(line.strip(b"\t")) for line in lines[1:])


def test_json_lines_that_are_none_are_refused_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    good = '{"reviewerID":"u","asin":"p","overall":5,"unixReviewTime":1}'
    file.write_bytes(f'{good}\nnot json\n\n{good[:-1]},"x":1}}\n{{"cut":'.encode() + b"\n\xff\xfe\n")
    dataset = prepare(file, tmp_path / "out", PrepareConfig(max_rejects=1, **ALL_TRAIN))
    found = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert [(r["line"], r["reason"]) for r in found] == [(n, "no JSON object") for n in (2, 5, 6)]
    assert (dataset.info.counts.read, dataset.info.counts.duplicates) == (5, 1)


def test_rows_of_parquet_are_refused_with_their_number(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"user_id": ["u", None, "w"], "parent_asin": ["p", "q", "r"], "rating": [5.0, 4.0, None]})
    pq.write_table(table, tmp_path / "r.parquet")
    dataset = prepare(tmp_path / "r.parquet", tmp_path / "out", PrepareConfig(max_rejects=1, **ALL_TRAIN))
    found = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert [(r["line"], r["reason"], r["text"]) for r in found] == [
        (2, "no customer", "\tq\t4.0"),
        (3, "stars are no number", "w\tr\t"),
    ]


def test_an_unterminated_quote_swallows_nothing_silently(tmp_path: Path) -> None:
    # where text goes over lines, records are counted: the header, 200, and this one
    rows = [f'u{i},"two\nlines",p{i},4' for i in range(200)]
    rows += ['u999,"never closed,p9,3', *(f"v{i},x,p{i},5" for i in range(50))]
    with pytest.raises(AmzrecError, match=r"51 quotes or number of fields do not fit \(line 202: 'u999,.never closed"):
        prepared(tmp_path, "user,text,item,rating\n" + "\n".join(rows) + "\n")


def test_too_many_refused_rows_stop_with_the_commonest_reasons_and_an_example(tmp_path: Path) -> None:
    text = "user_id,parent_asin,rating\n" + "u1,p1,5\n" * 9 + "u2,p2,bad\n"
    with pytest.raises(
        AmzrecError, match=r"10.0% of the 10 rows.*1 stars are no number \(line 11: 'u2,p2,bad'\).*--max-rejects"
    ):
        prepared(tmp_path, text)
    assert not (tmp_path / "out").exists()
    assert prepared(tmp_path, text, max_rejects=0.1).info.counts.rejected == {"stars are no number": 1}


def test_no_numeric_stars_at_all_names_the_column(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match=r"has a number in its stars column 'rating'.*leave stars out"):
        prepared(tmp_path, "user,item,rating\nu,p,good\nu,q,bad\n")


def test_a_header_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match="no reviews"):
        prepared(tmp_path, HEAD)


def test_clicks_have_no_stars_and_no_scale(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, "customer,product\nu,p\nv,p\nu,q\n", **ALL_TRAIN)
    assert dataset.info.stars is None
    assert len(dataset.train) == 3
    assert all(s != s for s in dataset.train.stars)
    assert not dataset.has_time


def test_the_scale_is_the_layouts_where_it_has_one_and_else_what_the_data_holds(tmp_path: Path) -> None:
    assert prepared(tmp_path, "user,item,rating\nu,p,10\nv,p,30\n", **ALL_TRAIN).info.stars == Scale(10.0, 30.0)
    amazon = "user_id,parent_asin,rating\nu,p,4\nv,p,5\n"
    assert prepared(tmp_path, amazon, **ALL_TRAIN).info.stars == Scale(1.0, 5.0)


def test_the_k_core_is_iterated_to_its_fixed_point(tmp_path: Path) -> None:
    # once 4 (1 review) goes, d has 1 review left and goes, then 3, then c: the square of a, b, 1, 2 stays
    pairs = [tuple(pair) for pair in ("a1", "a2", "b1", "b2", "c2", "c3", "d3", "d4")]
    dataset = prepared(tmp_path, "customer,product\n" + "".join(f"{c},{p}\n" for c, p in pairs), min_reviews=2)
    assert {(c, p) for c, p, _, _ in reviews_of_clicks(dataset)} == {("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")}
    assert dataset.info.counts.filtered == 4
    with pytest.raises(AmzrecError, match="--min-reviews 3 leaves none of the 8 reviews"):
        prepared(tmp_path, "customer,product\n" + "".join(f"{c},{p}\n" for c, p in pairs), min_reviews=3)


def reviews_of_clicks(dataset: Dataset) -> set[tuple[str, str, None, int]]:
    return {(c, p, None, t) for c, p, _, t in reviews_of(dataset)}


def test_parts_are_sorted_by_customer_time_and_product(tmp_path: Path) -> None:
    text = "customer,product,timestamp\n" + "".join(f"u{i % 3},p{i},{(7 * i) % 5}\n" for i in range(30))
    train = prepared(tmp_path, text).train
    keys = list(zip(train.customer.tolist(), train.timestamp.tolist(), train.product.tolist(), strict=True))
    assert keys == sorted(keys)


def test_the_same_reviews_in_another_order_give_the_same_dataset(tmp_path: Path) -> None:
    rows = [f"u{i % 7},p{i % 11},{i % 5 + 1},{i},T{i % 11},C" for i in range(60)]
    one = prepared(tmp_path / "a", HEAD + "\n".join(rows), columns=columns())
    two = prepared(tmp_path / "b", HEAD + "\n".join(rows[::-1]), columns=columns())
    assert one.products.equals(two.products)
    assert one.customers.equals(two.customers)
    for part in ("train", "valid", "test"):
        assert pq.read_table(one.path / f"{part}.parquet").equals(pq.read_table(two.path / f"{part}.parquet"))


def test_the_dataset_file_tells_source_columns_protocol_and_counts(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, "user,item,rating\nu,p,4\nv,p,5\nv,q,2\n")
    info = json.loads((dataset.path / "dataset.json").read_text())
    assert info["source"] == str(tmp_path / "reviews.csv")
    assert info["columns"] == {"customer_id": "user", "product_id": "item", "stars": "rating"}
    assert info["protocol"]["product_key"] == "id"
    assert len(info["fingerprint"]) == 16
    tables = {"train", "valid", "test", "customers", "products", "rejects"}
    assert {p.name for p in dataset.path.iterdir()} == {
        "dataset.json",
        "manifest.json",
        *(f"{name}.parquet" for name in tables),
    }


def test_an_existing_folder_is_refused_without_overwrite_and_a_failure_leaves_it(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("user,item\nu,p\n")
    prepare(file, tmp_path / "out", PrepareConfig(**ALL_TRAIN))
    with pytest.raises(AmzrecError, match=r"exists already.*--overwrite"):
        prepare(file, tmp_path / "out")
    with pytest.raises(AmzrecError, match="there is no file"):
        prepare(tmp_path / "gone.csv", tmp_path / "out", overwrite=True)
    assert len(open_dataset(tmp_path / "out").train) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "reviews.csv"]


@pytest.mark.slow
def test_a_killed_prepare_leaves_no_dataset_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("user,item\n" + "".join(f"u{i % 9},p{i % 7}\n" for i in range(60)))
    code = (
        "import time\n"
        "from amzrec.commands.prepare import prepare\n"
        "class Voice:\n"
        "    def say(self, line): pass\n"
        "    def step(self, label, done, total, note=''):\n"
        "        if label.endswith('writing'): print(label, flush=True); time.sleep(60)\n"
        f"prepare({str(file)!r}, {str(tmp_path / 'out')!r}, overwrite=True, progress=Voice())\n"
    )
    for _ in range(2):  # the second time, an older dataset is there
        before = (tmp_path / "out").exists()
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"prepare: writing\n"
        process.kill()
        process.communicate()
        (partial,), (lock,) = tmp_path.glob(".out.*.partial"), tmp_path.glob(".out.*.lock")
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"reviews.csv", partial.name, lock.name} | ({"out"} if before else set())
        assert not is_dataset(partial)
        if before:
            assert len(open_dataset(tmp_path / "out").train) > 0
        prepare(file, tmp_path / "out", overwrite=True)
        assert {path.name for path in tmp_path.iterdir()} == {"reviews.csv", "out"}


def test_an_unfinished_dataset_inside_the_folder_of_the_source_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("user,item\nu,p\nv,q\n")
    left = tmp_path / ".mine.1.partial"
    left.mkdir()
    (left / "train.csv").write_text("user,item\nw,r\n")
    dataset = prepare(tmp_path, tmp_path / "mine", PrepareConfig(**ALL_TRAIN))
    assert dataset.info.counts.read == 2


@pytest.mark.slow
def test_the_cache_is_by_content_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "reviews.csv"
    file.write_text("user,item\nu,p\nv,q\n")
    first = dataset_of(file)
    assert first.path.parent == tmp_path / "cache"
    written = (first.path / "dataset.json").stat().st_mtime_ns
    assert (dataset_of(file).path, (first.path / "dataset.json").stat().st_mtime_ns) == (first.path, written)
    assert dataset_of(file, PrepareConfig(seed=1)).path != first.path
    file.write_text("user,item\nu,p\nv,r\n")
    assert dataset_of(file).path != first.path


def test_titles_are_cleaned_for_reading() -> None:
    assert titles.clean_title(" Salt &amp;  Pepper ") == "Salt & Pepper"
    assert titles.clean_title('<span class="a-size-medium') is None
    assert titles.clean_title("NA") == "NA"
    assert titles.clean_title("a\x1b[2J\x00\tb\x9b\u202e&#27;") == "a[2J b"
    assert titles.clean_title("=1+1 – é 漢 👩‍🚀") == "=1+1 – é 漢 👩‍🚀"


rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", ""]),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from("12345x9"),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=rows, k=st.sampled_from([0, 2]), split=st.sampled_from(["random", "per-customer"]))
def test_every_row_read_is_kept_or_accounted_for(tmp_path: Path, rows: Any, k: int, split: str) -> None:
    text = "user_id,parent_asin,rating,timestamp\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    try:
        dataset = prepared(tmp_path, text, min_reviews=k, split=split, max_rejects=1)
    except AmzrecError:  # nothing good, nothing left of the core, or nothing in train
        return
    counts = dataset.info.counts
    assert counts.read == len(rows)
    assert counts.kept == counts.train + counts.valid + counts.test
    lost = sum(counts.rejected.values()) + counts.duplicates + counts.repeats + counts.filtered
    assert counts.read == counts.kept + lost
    assert dataset.info.stars is not None
    on_scale = "123459" if dataset.info.stars.max >= 9 else "12345"  # many a 9 among few is a scale to 10
    good = {(c, p) for c, p, stars, _ in rows if c and stars in on_scale}
    kept = [(c, p) for c, p, _, _ in reviews_of(dataset)]
    assert set(kept) <= good
    assert k or set(kept) == good
    for side in (0, 1):
        assert all(sum(pair[side] == one for pair in kept) >= k for one in {pair[side] for pair in kept})


def test_tokens_are_the_hashed_words_of_each_title() -> None:
    texts = [None, "Rope, 5m ROPE", "", "Größe Ülm rope", "a\x00b", None, "_x 9", "rope", "!", "a b", "b", None]
    words = [[], ["rope", "5m", "rope"], [], ["größe", "ülm", "rope"], ["a", "b"], [], ["_x", "9"], ["rope"], [],
             ["a", "b"], ["b"], []]  # fmt: skip
    hashed = [[zlib.crc32(word.encode()) & 0x7FFFFFFF for word in each] for each in words]
    array = pa.array(texts, pa.string())
    assert titles.tokens(array).to_pylist() == hashed
    assert titles.tokens(array[3:]).to_pylist() == hashed[3:]  # a slice of a longer array
    assert titles.tokens(array[:1]).to_pylist() == [[]]


def test_titles_are_cleaned_all_at_once_as_one_by_one() -> None:
    texts = [None, "", " ", "Plain title", "Salt &amp; Pepper", " x ", "a  b", "<span class=x", "<b>", "<img src",
              "var aPageStart;", "Amazon.com: y", "Amazonicom: y", "Größe", "a\u00a0 b", "tab\there",
              "variety"]  # fmt: skip
    found = titles.clean_titles(pa.array(texts, pa.string())).to_pylist()
    assert found == [titles.clean_title(title) for title in texts]
    assert found[3:6] == ["Plain title", "Salt & Pepper", "x"]


def test_two_ids_of_one_hash_are_an_error_and_not_one_customer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb.DuckDB, "hash", lambda engine, text: text.length())
    text = "user_id,parent_asin,rating\n"
    prepared(tmp_path, text + "u,p,5\nuu,p,4\n" * 9, **ALL_TRAIN)
    with pytest.raises(AmzrecError, match=r"4 train reviews were written for 2: two ids .* one hash.*--engine spark"):
        prepared(tmp_path, text + "u,p,5\nv,pp,4\n" * 9, **ALL_TRAIN)
    assert len(open_dataset(tmp_path / "out").train) == 2


@pytest.mark.slow
def test_a_line_longer_than_a_block_is_a_review_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "r.tsv"
    words = "w" * (3 << 19)
    file.write_text(f"user_id\tparent_asin\trating\ttext\nu\tp\t5\t{words}\nv\tp\n" + "v\tp\t4\tx\n" * 99)
    monkeypatch.setattr(blocks, "LARGE", 0)
    for size in (1 << 20, 8 << 20):
        monkeypatch.setattr(blocks, "BLOCK", size)
        dataset = prepare(file, tmp_path / "out", PrepareConfig(**ALL_TRAIN), overwrite=True)
        assert (dataset.info.counts.read, dataset.info.counts.kept) == (101, 2)
        assert [r["line"] for r in pq.read_table(dataset.path / "rejects.parquet").to_pylist()] == [3]
