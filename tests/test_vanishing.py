"""No row vanishes: read = kept + rejected + duplicates + repeats + filtered, whatever a file does to its readers."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import room
from amzrec.reviews.cache import dataset_of
from amzrec.reviews.sources import blocks
from amzrec.reviews.textfile import LARGE, LONGEST, fingerprint, may_have_longer_lines
from amzrec.store.dataset import Counts, Dataset

HEADER = "user,item,rating,text\n"
ROWS = [f"u{i},p{i % 7},{i % 5 + 1},t" for i in range(100)]
LONG = "y" * (LONGEST + 1)
MANY = 105 << 20  # bytes of a line, above which DuckDB's reader of CSV passes over it without a word


def prepared(file: Path) -> Dataset:
    """The dataset of a file, of which all rows but one may be refused."""
    return prepare(file, file.parent / "d", PrepareConfig(max_rejects=0.99), overwrite=True)


def adds_up(counts: Counts, read: int) -> bool:
    """Whether all rows were read, and each of them has a place."""
    places = counts.kept + sum(counts.rejected.values()) + counts.duplicates + counts.repeats + counts.filtered
    return counts.read == read == places


def between(line: str, rows: list[str] = ROWS) -> str:
    """Rows with one more in their middle."""
    return "\n".join([*rows[:50], line, *rows[50:]]) + "\n"


def as_json(line: str) -> str:
    """A row as JSON."""
    return json.dumps(dict(zip(("user", "item", "rating", "text"), line.split(","), strict=True)))


LINES: dict[str, Callable[[str], tuple[str, str]]] = {  # of a text of the review → the name of a file and its content
    "csv": lambda text: ("r.csv", HEADER + between(f"u1000,p1,3,{text}")),
    "quoted csv": lambda text: ("r.csv", HEADER + between(f'u1000,p1,3,"{text}, and"', ['u,p,3,"a, b"', *ROWS[1:]])),
    "tabs": lambda text: ("r.tsv", (HEADER + between(f"u1000,p1,3,{text}")).replace(",", "\t")),
    "json": lambda text: ("r.jsonl", between(as_json(f"u1000,p1,3,{text}"), [as_json(row) for row in ROWS])),
}


@pytest.mark.parametrize("form", LINES)
@pytest.mark.parametrize("text", ["short", "y" * 3_000_000, "ü" * 2_600_000], ids=["short", "long", "ü"])
def test_a_line_up_to_16_mb_is_read(tmp_path: Path, form: str, text: str) -> None:
    name, content = LINES[form](text)
    (tmp_path / name).write_text(content)
    counts = prepared(tmp_path / name).info.counts
    assert adds_up(counts, 101)
    assert counts.kept == 101


@pytest.mark.parametrize("form", LINES)
@pytest.mark.parametrize("text", [LONG, "ü" * (LONGEST // 2 + 1), "y" * MANY], ids=["just", "ü", "much"])
def test_a_longer_line_is_refused_and_listed(tmp_path: Path, form: str, text: str) -> None:
    name, content = LINES[form](text)
    (tmp_path / name).write_text(content)
    dataset = prepared(tmp_path / name)
    assert adds_up(dataset.info.counts, 101)
    assert dataset.info.counts.kept == 100
    (refused,) = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert (refused["line"], refused["file"]) == (51 + (form != "json"), str(tmp_path / name))
    assert "_bytes_which_is_too_long" in refused["text"]


def test_a_longer_line_of_a_gzip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress((HEADER + between(f"u1000,p1,3,{LONG}")).encode()))
    assert adds_up(prepared(tmp_path / "r.csv.gz").info.counts, 101)


def test_reviews_of_a_json_array_on_one_long_line_are_all_there(tmp_path: Path) -> None:
    text = "y" * 200_000
    (tmp_path / "r.json").write_text(f"[{', '.join(as_json(f'u{i},p{i % 7},3,{text}') for i in range(100))}]")
    assert prepared(tmp_path / "r.json").info.counts.kept == 100


def test_longer_lines_are_found_wherever_they_begin(tmp_path: Path) -> None:
    for before in (0, 1, LONGEST // 2 - 1, LONGEST // 2, LONGEST // 2 + 1, LONGEST):
        head = b"short\n" * (before // 6) + b"\n" * (before % 6)
        for packed, name in ((False, "r.csv"), (True, "r.csv.gz")):
            content = head + b"y" * (LONGEST + 1) + b"\nshort\n"
            (tmp_path / name).write_bytes(gzip.compress(content, 1) if packed else content)
            assert may_have_longer_lines(tmp_path / name)
    (tmp_path / "r.csv").write_bytes(b"a line of some length\n" * 3_000_000)
    assert not may_have_longer_lines(tmp_path / "r.csv")


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_control_character_in_an_id_is_the_same_in_small_and_large_files(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ["u\x01x,p1,3,t", "u\x01z\x01,p2,3,t", "\x01\x02,p3,3,t", "\x01\x02\x03,p3,3,\x01"]
    text = HEADER + "\n".join([*odd, *ROWS]) + "\n"
    (tmp_path / f"r.{suffix}").write_text(text if suffix == "csv" else text.replace(",", "\t"))
    found = []
    for large in (1 << 30, 1):  # read line by line, and in blocks
        monkeypatch.setattr(blocks, "LARGE", large)
        dataset = prepared(tmp_path / f"r.{suffix}")
        assert adds_up(dataset.info.counts, 104)
        found.append(set(dataset.customers["customer_id"].to_pylist()))
    assert found[0] == found[1]
    assert {"u\x01x", "u\x01z\x01", "\x01\x02", "\x01\x02\x03", "u99"} <= found[0]


def test_fields_of_hive_are_read_where_the_first_line_has_them(tmp_path: Path) -> None:
    text = (HEADER + "\n".join(ROWS) + "\n").replace(",", "\x01")
    (tmp_path / "r.txt").write_text(text)
    assert prepared(tmp_path / "r.txt").info.counts.kept == 100


# --- archives


def zipped(file: Path, members: list[tuple[str, str]]) -> Path:
    """A zip of files, some of one name."""
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return file


def tarred(file: Path, members: list[tuple[str, str]]) -> Path:
    """A tar of files, some of one name."""
    with tarfile.open(file, "w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return file


@pytest.mark.parametrize(
    "names", [("a/r.csv", "b/r.csv"), ("r.csv", "r.csv"), ("r.csv", "../r.csv"), ("r.csv", "R.csv")]
)
@pytest.mark.parametrize("packed", [zipped, tarred])
def test_files_of_one_name_in_an_archive_are_all_read(
    tmp_path: Path, names: tuple[str, str], packed: Callable[[Path, list[tuple[str, str]]], Path]
) -> None:
    halves = [HEADER + "\n".join(ROWS[:50]) + "\n", HEADER + "\n".join(ROWS[50:]) + "\n"]
    file = packed(
        tmp_path / "r.zip" if packed is zipped else tmp_path / "r.tar.gz", list(zip(names, halves, strict=True))
    )
    counts = prepared(file).info.counts
    assert adds_up(counts, 100)
    assert counts.kept == 100


BOMB = "u1,p1,3,t\n" * 2_000_000  # 20 MB, which go into some kilobytes
BOMBS: dict[str, Callable[[Path], object]] = {
    "bomb.zip": lambda file: zipped(file, [("r.csv", HEADER + BOMB)]),
    "many.zip": lambda file: zipped(file, [(f"{n}.csv", HEADER + BOMB[:2_000_000]) for n in range(10)]),
    "bomb.tar.gz": lambda file: tarred(file, [("r.csv", HEADER + BOMB)]),
    "bomb.csv.gz": lambda file: file.write_bytes(gzip.compress((HEADER + BOMB).encode())),
    "bomb.csv.bz2": lambda file: file.write_bytes(bz2.compress((HEADER + BOMB).encode())),
    "bomb.csv.xz": lambda file: file.write_bytes(lzma.compress((HEADER + BOMB).encode())),
    "bomb.csv.zst": lambda file: file.write_bytes(pa.compress((HEADER + BOMB).encode(), "zstd", asbytes=True)),
    "bomb.xlsx": lambda file: zipped(file, [("xl/workbook.xml", "<x/>"), ("xl/worksheets/sheet1.xml", BOMB)]),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_far_more_than_its_size_is_refused_before_the_disk_is_full(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SMALL", 1 << 22)
    BOMBS[name](tmp_path / name)
    with pytest.raises(AmzrecError, match=rf"{name} unpacks to more than 200 times its size"):
        prepared(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_archive_of_very_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_MEMBERS", 10)
    with pytest.raises(AmzrecError, match="more than 10 files"):
        prepared(zipped(tmp_path / "r.zip", [(f"{n}.csv", HEADER) for n in range(11)]))


def test_a_full_disk_is_no_fault_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room.Room, "copy", full)
    for file in (zipped(tmp_path / "r.zip", [("r.csv", HEADER)]), tmp_path / "r.csv.bz2"):
        (tmp_path / "r.csv.bz2").write_bytes(bz2.compress(HEADER.encode()))
        with pytest.raises(AmzrecError, match=r"no space to unpack .*r\..*No space left on device"):
            prepared(file)


# --- the cache


@pytest.mark.parametrize("size", [1 << 10, LARGE + (5 << 20)])
def test_a_fingerprint_is_of_all_bytes(tmp_path: Path, size: int) -> None:
    file = tmp_path / "r.csv"
    file.write_bytes(bytes(size))
    before = fingerprint([file])
    assert fingerprint([file]) == before
    for place in (0, 1, size // 3, size // 2 + 12_345 % (size // 4), size - 1):
        with file.open("r+b") as stream:
            stream.seek(place)
            stream.write(b"x")
        assert fingerprint([file]) != before, place
        with file.open("r+b") as stream:
            stream.seek(place)
            stream.write(b"\0")
    assert fingerprint([file]) == before


def test_a_fingerprint_is_of_names_too_and_not_of_the_place(tmp_path: Path) -> None:
    prints = []
    for place in ("one", "two"):
        for name, content in (("a/r.csv", "1"), ("b/r.csv", "2")):
            (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place / name).write_text(content)
        prints.append(fingerprint(sorted((tmp_path / place).rglob("*.csv")), tmp_path / place))
    assert prints[0] == prints[1]
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "c")
    assert fingerprint(sorted((tmp_path / "two").rglob("*.csv")), tmp_path / "two") != prints[0]


def test_a_file_that_is_edited_at_the_same_size_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text(HEADER + "\n".join(ROWS) + "\n")
    first = dataset_of(str(file))
    file.write_text(HEADER + "\n".join([*ROWS[:-1], "v99,p1,1,t"]) + "\n")
    assert file.stat().st_size == len(HEADER + "\n".join(ROWS) + "\n")
    assert "v99" in dataset_of(str(file)).customers["customer_id"].to_pylist()
    assert "v99" not in first.customers["customer_id"].to_pylist()
