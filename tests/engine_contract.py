"""What every engine must do, stated on tiny files: the test files of the engines inherit this class."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import split
from amzrec.reviews.engines.protocol import Engine, Refused
from amzrec.reviews.relation import BAD_RECORD, BROKEN, NOT_JSON, NOT_UTF8, Part


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(engine: Engine, part: Part, **wanted: Any) -> list[Refused]:
    """The rows whose columns have these values, found again in the file."""
    with engine.in_order(part) as reviews:
        rows = reviews.filter([reviews[column] == value for column, value in wanted.items()])
        positions = engine.fetch(rows.select("position").order_by("position"))["position"].to_pylist()
        return list(engine.refused(part, dict.fromkeys(positions, "why")))


class EngineContract:
    """Tests of one engine, which the fixture `engine` of a subclass gives."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        raise NotImplementedError

    def values(self, engine: Engine, table: Any, column: str) -> list[Any]:
        """The values of a column that are in good lines, in no order of their own."""
        if BROKEN in table.columns:
            table = table.filter(table[BROKEN].isnull())
        return sorted(engine.fetch(table)[column].to_pylist())

    @pytest.mark.parametrize("packed", [False, True])
    def test_lines_are_the_non_blank_ones_after_the_header(self, engine: Engine, tmp_path: Path, packed: bool) -> None:
        text = b'\n\nhead\r\nb "x\r\n\na,1\n\n\xc3\xa9'
        file = write(tmp_path / "lines", gzip.compress(text) if packed else text)
        assert self.values(engine, engine.read_lines(file, header=True), "line") == ["a,1", 'b "x', "é"]
        assert self.values(engine, engine.read_lines(file, header=False), "line") == ["a,1", 'b "x', "head", "é"]

    def test_lines_that_are_not_utf8_are_found_again_with_their_number(self, engine: Engine, tmp_path: Path) -> None:
        file = write(tmp_path / "a b[1].csv", b"head\ngood\n\nbad \xff\nlast\n")
        table = engine.read_lines(file, header=True)
        assert self.values(engine, table, "line") == ["good", "last"]
        part = Part(file, table, header=1)
        unread = engine.unread()
        assert len(unread) == (0 if BROKEN in table.columns else 1)
        assert all(record.not_utf8 for record in unread)
        assert (2, "why", "good") in refused(engine, part, line="good")
        if unread:  # a reader that leaves such lines out finds them with the others of the file
            assert refused(engine, part, line="good") == [(2, "why", "good"), (4, NOT_UTF8, "bad \ufffd")]

    def test_records_go_over_line_ends_in_quotes(self, engine: Engine, tmp_path: Path) -> None:
        file = write(tmp_path / "r.csv", 'a;b\n1;"two\nlines; ""yes"""\n2;\n')
        rows = engine.fetch(engine.read_records(file, ["a", "b"], ";", header=True).select("a", "b").order_by("a"))
        first, second = rows.to_pylist()
        assert first == {"a": "1", "b": 'two\nlines; "yes"'}
        assert (second["a"], second["b"] or "") == ("2", "")

    def test_a_record_with_too_few_fields_is_no_row_of_values(self, engine: Engine, tmp_path: Path) -> None:
        file = write(tmp_path / "r.csv", 'a,b,c\n1,2,3\n4\n"5\n5",6,7\n')
        table = engine.read_records(file, ["a", "b", "c"], ",", header=True)
        good = table.filter(table[BROKEN].isnull()) if BROKEN in table.columns else table
        assert {row["b"] for row in engine.fetch(good).to_pylist()} == {"2", "6"}
        if BROKEN in table.columns:
            (reason,) = {row[BROKEN] for row in engine.fetch(table).to_pylist()} - {None}
            assert reason == BAD_RECORD
        else:
            (record,) = engine.unread()
            assert (record.file, record.line, record.not_utf8) == (str(file), 3, False)

    def test_objects_are_the_wanted_keys_as_text(self, engine: Engine, tmp_path: Path) -> None:
        lines = [
            '{"a": "x", "b": 5, "c": {"d": 1}}', " ", '{"a": "007", "b": 4.5}', "not json", '{"c": 1}', '{"a": "cut',
        ]  # fmt: skip
        file = write(tmp_path / "r.jsonl", "\n".join(lines))
        table = engine.read_objects(file, {"a": ("a",), "b": ("b",)})
        rows = engine.fetch(table).to_pylist()
        good = {(row["a"], float(row["b"])) for row in rows if row[BROKEN] is None}
        assert good == {("x", 5.0), ("007", 4.5)}
        assert [row[BROKEN] for row in rows if row[BROKEN] is not None] == [NOT_JSON] * 3
        part = Part(file, table, json=True)
        assert [line for line, _, _ in refused(engine, part, **{BROKEN: NOT_JSON})] == [4, 5, 6]

    def test_parquet_keeps_its_types_and_rows_are_found_by_number(self, engine: Engine, tmp_path: Path) -> None:
        file = tmp_path / "_hidden.parquet"
        pq.write_table(pa.table({"user": ["u", "v", None], "stars": [5.0, 4.0, 3.0]}), file)
        table = engine.read_parquet(file)
        assert table["stars"].type().is_floating()
        assert refused(engine, Part(file, table, lines=False), user="v") == [(2, "why", "v\t4.0")]

    def test_a_table_is_computed_once_and_may_be_replaced_and_dropped(self, engine: Engine) -> None:
        first = engine.create_table("numbers", pa.table({"n": [1, 2, 3]}))
        again = engine.create_table("numbers", first.filter(first.n > 1), overwrite=True)
        assert engine.size(again) == 2
        assert sorted(engine.fetch(engine.table("numbers"))["n"].to_pylist()) == [2, 3]
        engine.drop("numbers", "never made")

    def test_a_connection_beside_sees_the_same_tables(self, engine: Engine) -> None:
        engine.create_table("shared", pa.table({"n": [7]}))
        beside = engine.beside()
        assert beside.fetch(beside.table("shared"))["n"].to_pylist() == [7]

    def test_results_come_in_order_in_batches_and_in_files(self, engine: Engine, tmp_path: Path) -> None:
        table = engine.create_table("numbers", pa.table({"n": pa.array(range(25), pa.int32())}))
        down = table.order_by(table.n.desc())
        batches = list(engine.batches(down, 10))
        assert max(batch.num_rows for batch in batches) <= 2048  # DuckDB gives whole vectors of its own
        assert [n for batch in batches for n in batch["n"].to_pylist()] == list(range(24, -1, -1))
        engine.write_parquet(down, tmp_path / "numbers.parquet")
        written = pq.read_table(tmp_path / "numbers.parquet")
        assert written.schema.field("n").type == pa.int32()
        assert written["n"].to_pylist() == list(range(24, -1, -1))
        assert engine.size(down) == 25

    def test_equal_texts_have_equal_hashes_of_64_bits(self, engine: Engine) -> None:
        texts = ["a", "b", "a", "", "é", "a" * 1000]
        table = engine.create_table("texts", pa.table({"n": range(6), "text": texts}))
        table = table.mutate(hash=engine.hash(table.text))
        hashes = engine.fetch(table.order_by("n"))["hash"].to_pylist()
        assert hashes[0] == hashes[2]
        assert len(set(hashes)) == 5
        assert max(abs(number) for number in hashes) > 2**40

    def test_the_digits_of_a_split_are_the_md5_that_anybody_can_compute(self, engine: Engine) -> None:
        table = engine.create_table("pair", pa.table({"customer_id": ["é"], "product_id": ["p 1"]}))
        digits = engine.fetch(table.select(digits=split.digits_of(table, PrepareConfig(seed=7))))["digits"].to_pylist()
        assert digits == [hashlib.md5("é\x1fp 1\x1f7".encode()).hexdigest()]

    def test_what_the_library_raises_names_the_source_and_is_no_traceback(self, engine: Engine, tmp_path: Path) -> None:
        file = tmp_path / "r.parquet"
        pq.write_table(pa.table({"user": ["u"]}), file)
        table = engine.read_parquet(file)
        file.unlink()
        with pytest.raises(AmzrecError) as error, engine.working("my source", tmp_path):
            engine.fetch(table.mutate(n=ibis.row_number()))
        assert "my source" in str(error.value)
        assert "out of disk" not in str(error.value)
