"""Spreadsheets: values are typed into sheets here, and read as the table they are."""

from __future__ import annotations

import datetime
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.sources import location
from amzrec.store.dataset import PARTS, Dataset
from voices import Voice

MAY_27 = int(datetime.datetime(2014, 5, 27, tzinfo=datetime.UTC).timestamp())
Rows = Sequence[Sequence[Any]]


def workbook(file: Path, **sheets: Rows) -> Path:
    """Write a spreadsheet of these sheets."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.save(file)
    return file


def reviews(customers: range, header: Sequence[str] = ("user", "item", "rating")) -> list[Sequence[Any]]:
    """Reviews of five products by each of these customers."""
    return [header, *((100 + c, f"p{p}", 1 + (c + p) % 5) for c in customers for p in range(5))]


def prepared(source: Path | str, tmp_path: Path, **settings: Any) -> tuple[Dataset, str]:
    """The dataset of a source, and what was said."""
    from amzrec import prepare

    voice = Voice()
    dataset = prepare(source, tmp_path / "out", PrepareConfig(**settings), overwrite=True, progress=voice)
    return dataset, "\n".join(voice.lines)


def rows_of(dataset: Dataset) -> set[tuple[Any, ...]]:
    """(customer, product, stars, seconds) of all parts."""
    customers, products = dataset.customers["customer_id"].to_pylist(), dataset.products["product_id"].to_pylist()
    tables = [pq.read_table(dataset.path / f"{part}.parquet").to_pylist() for part in PARTS]
    return {(customers[r["customer"]], products[r["product"]], r["stars"], r["timestamp"]) for t in tables for r in t}


def test_numbers_dates_and_text_of_a_sheet_are_what_they_look_like(tmp_path: Path) -> None:
    day, noon = datetime.date(2014, 5, 27), datetime.datetime(2014, 5, 27, 12)
    rows = [
        ("User ID", "ISBN", "Rating", "Date"),
        (17, "007", 4.5, day),
        (18.0, "a, \"b\"\tc\nd", 3, noon),
        (True, "x", 1, None),
        *[(n, "y", 2, day) for n in range(20, 40)],
    ]  # fmt: skip
    dataset, _ = prepared(workbook(tmp_path / "r.xlsx", S=rows), tmp_path)
    found = rows_of(dataset)
    assert {("17", "007", 4.5, MAY_27), ("18", 'a, "b" c d', 3.0, MAY_27 + 43_200), ("20", "y", 2.0, MAY_27)} <= found
    assert {row[3] for row in found if row[0] == "1"} == {None}


def test_the_header_is_below_a_title_and_lines_are_counted_as_the_sheet_does(tmp_path: Path) -> None:
    rows = [
        ("Our reviews", "2014"),
        (),
        ("user", "item", "rating", "note"),
        *[(*row, "") for row in reviews(range(9))[1:]],
    ]
    rows[9] = ("u", "p", "bad", "")
    dataset, _ = prepared(workbook(tmp_path / "r.xlsx", S=rows), tmp_path)
    assert dataset.info.counts.kept == 44
    (refused,) = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert (refused["file"], refused["line"]) == (str(tmp_path / "r.xlsx"), 10)


def test_the_only_sheet_with_customers_is_read_and_one_of_products_gives_titles(tmp_path: Path) -> None:
    products = [("item", "title"), *((f"p{p}", f"Rope {p}") for p in range(5))]
    file = workbook(tmp_path / "r.xlsx", Notes=[("by", "us")], Products=products, R=reviews(range(9)), Empty=[])
    dataset, said = prepared(file, tmp_path)
    assert dataset.info.counts.kept == 45
    assert sorted(dataset.products["title"].to_pylist()[1:]) == [f"Rope {p}" for p in range(5)]
    assert f"titles are from {file}#Products" in said
    assert "passed over: " in said
    (tmp_path / "r.csv").write_text("user,item\n" + "".join(f"u{n},p{n % 5}\n" for n in range(20)))
    for titles in (f"{file}#Products", str(file)):
        dataset, said = prepared(tmp_path / "r.csv", tmp_path, titles=titles)
        assert "has titles of 5 of the 5 products" in said


def test_sheets_of_one_kind_are_read_together_and_of_two_kinds_one_is_named(tmp_path: Path) -> None:
    years = workbook(tmp_path / "years.xlsx", y2022=reviews(range(9)), y2023=reviews(range(9, 20)))
    assert prepared(years, tmp_path)[0].info.counts.customers == 20
    assert prepared(f"{years}#Y2023", tmp_path)[0].info.counts.customers == 11
    with pytest.raises(AmzrecError, match=r"has no sheet '2024'\. Its sheets: y2022, y2023"):
        prepared(f"{years}#2024", tmp_path)
    two = workbook(tmp_path / "two.xlsx", A=reviews(range(9)), B=reviews(range(4), ("buyer id", "sku", "rating")))
    with pytest.raises(AmzrecError, match=r"2 kinds of tables that may be the reviews: .*two.xlsx#B, .*two.xlsx#A"):
        prepared(two, tmp_path)
    assert prepared(f"{two}#B", tmp_path)[0].info.counts.customers == 4
    one, other = (location.fingerprint_of(f"{two}#{sheet}") for sheet in "AB")
    assert one != other


def test_spreadsheets_in_folders_globs_archives_and_beside_others_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    workbook(folder / "a.xlsx", S=reviews(range(9)))
    workbook(folder / "b.xlsx", S=reviews(range(9, 20)))
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    for source in (folder, f"{folder}/*.xlsx", tmp_path / "many.zip"):
        assert prepared(source, tmp_path)[0].info.counts.customers == 20
    (folder / "c.csv").write_text("user,item,rating\n" + "".join(f"{n},p1,3\n" for n in range(20)))
    assert prepared(folder, tmp_path)[0].info.counts.customers == 20  # spreadsheets beside tables are notes about them


ODS = (
    '<?xml version="1.0"?><office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>'
    '<table:table table:name="S">{}</table:table></office:spreadsheet></office:body></office:document-content>'
)


def test_an_ods_file_is_a_spreadsheet_too(tmp_path: Path) -> None:
    lines = [
        "".join(
            f'<table:table-cell office:value-type="float" office:value="{value}"/>' if isinstance(value, int)
            else f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'
            for value in row
        )
        for row in reviews(range(9))
    ]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "r.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", ODS.format("".join(f"<table:table-row>{x}</table:table-row>" for x in lines)))
        archive.writestr("META-INF/manifest.xml", '<manifest:manifest xmlns:manifest="x"></manifest:manifest>')
    assert prepared(tmp_path / "r.ods", tmp_path)[0].info.counts.kept == 45


def test_what_is_no_spreadsheet_behind_such_a_name_is_said(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "half.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and then nothing")
    (tmp_path / "text.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and then nothing")
    for name, words in {
        "half.xlsx": "a damaged spreadsheet",
        "old.xls": "a damaged spreadsheet",
        "text.doc": "a document of Office",
    }.items():
        with pytest.raises(AmzrecError, match=rf"{name} is {words}"):
            prepared(tmp_path / name, tmp_path)
    (tmp_path / "really.xlsx").write_text("user,item\nu1,p1\nu2,p2\n")  # CSV under another name
    assert prepared(tmp_path / "really.xlsx", tmp_path, test=0.01, valid=0)[0].info.counts.kept == 2


def test_a_damaged_workbook_whose_sheets_cannot_be_told_is_said(tmp_path: Path) -> None:  # found by fuzzing
    content = workbook(tmp_path / "r.xlsx", reviews=reviews(range(9))).read_bytes()
    (tmp_path / "r.xlsx").write_bytes(b"\xd0\xcf\x11\xe0" + content[4:].replace(b"xl/workbook.xml", b"xl/wookrbok.xml"))
    with pytest.raises(AmzrecError, match=r"r.xlsx has nothing in it, or is damaged"):
        prepared(tmp_path / "r.xlsx", tmp_path)


def test_a_file_without_a_name_in_an_archive_is_passed_over(tmp_path: Path) -> None:  # found by fuzzing
    lines = "".join(f"{user},{item},{stars}\n" for user, item, stars in reviews(range(9)))
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("x", "nothing")
        archive.writestr("r.csv", lines)
    content = (tmp_path / "r.zip").read_bytes()
    place = content.index(b"PK\x01\x02")
    (tmp_path / "r.zip").write_bytes(content[: place + 28] + b"\0\0\x01\0" + content[place + 32 :])  # x is no name now
    assert prepared(tmp_path / "r.zip", tmp_path)[0].info.counts.kept == 45


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(AmzrecError, match=r"is a spreadsheet: .*pip install 'amzrec\[xlsx\]'"):
        prepared(workbook(tmp_path / "r.xlsx", S=reviews(range(9))), tmp_path)
