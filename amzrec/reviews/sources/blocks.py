"""Delimited text without quotes, parsed by Arrow in blocks of whole lines, on all cores."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from amzrec.parallel import ahead
from amzrec.reviews.relation import BLANK, BROKEN, NOT_UTF8, RAGGED
from amzrec.reviews.textfile import open_bytes

BLOCK = 8 << 20  # bytes that are read at a time
LARGE = 64 << 20  # bytes of a file that is worth it: DuckDB imports pandas to look at a stream, which takes .4 s
BOM = b"\xef\xbb\xbf"


class Blocks:
    """The columns of a file of `width` fields at these `positions`, as Arrow streams of texts.

    BROKEN says which lines have another number of fields, are not UTF-8 or blank; within a block they come last.
    Engines scan it through `__arrow_c_stream__`, as often as they need. DuckDB's own reader takes half as long again,
    because it makes a text of each line, and a list of its fields, first.
    """

    def __init__(self, path: Path, delimiter: str, width: int, header: bool, positions: dict[str, int]) -> None:
        self.path, self.delimiter, self.width = path, delimiter, width
        self.header, self.positions = header, positions
        self.free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self.schema = pa.schema([(name, pa.string()) for name in (*positions, BROKEN)])

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Begin a new scan of the file; nothing is read before its first batch is asked for."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches()).__arrow_c_stream__(requested_schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield one batch per block, in order."""
        return ahead(self.parsed, self.read())

    def read(self) -> Iterator[tuple[bytearray, int, int]]:
        """Yield buffers, and where in them whole lines begin and end; the header is left out.

        `parsed` gives them back for the next block: new memory for each would cost as much as parsing.
        """
        rest, first = b"", True
        with open_bytes(self.path) as file:
            while True:
                buffer = self.buffer(len(rest) + BLOCK)
                buffer[: len(rest)] = rest
                size = len(rest) + file.readinto(memoryview(buffer)[len(rest) : len(rest) + BLOCK])
                last = size == len(rest)
                end = size if last else max(buffer.rfind(b"\n", 0, size), buffer.rfind(b"\r", 0, size)) + 1
                rest = bytes(memoryview(buffer)[end:size])
                begin = self.first_row(buffer, end) if first and end else 0
                first = first and not end
                yield buffer, begin, end
                if last:
                    return

    def buffer(self, size: int) -> bytearray:
        """Return a buffer that is free, or a new one."""
        try:
            free = self.free.get_nowait()
        except queue.Empty:
            free = bytearray()
        return free if len(free) >= size else bytearray(size + BLOCK)

    def first_row(self, buffer: bytearray, end: int) -> int:
        """Find where the first review begins, after byte order mark, blank lines and header."""
        start = len(BOM) if buffer.startswith(BOM) else 0
        while start < end and buffer[start] in b"\r\n":
            start += 1
        if self.header:
            ends = [buffer.find(mark, start, end) for mark in (b"\n", b"\r")]
            start = min((line_end + 1 for line_end in ends if line_end >= 0), default=end)
        return start

    def parsed(self, block: tuple[bytearray, int, int]) -> pa.RecordBatch:
        """Return the lines of a block as a batch; those that cannot be used are rows without values, at its end."""
        buffer, begin, end = block
        lines = memoryview(buffer)[begin:end]
        refused: list[str] = []
        if not is_utf8(lines):
            each = bytes(lines).replace(b"\r", b"\n").split(b"\n")
            good = [line for line in each if is_utf8(line)]
            refused = [NOT_UTF8] * (len(each) - len(good))
            lines = memoryview(b"\n".join(good))
        columns = self.columns(lines, refused)
        if may_be_blank(columns):
            each = bytes(lines).replace(b"\r", b"\n").split(b"\n")
            good = [line for line in each if not self.is_blank(line)]
            refused = [reason for reason in refused if reason == NOT_UTF8] + [BLANK] * (len(each) - len(good))
            columns = self.columns(memoryview(b"\n".join(good)), refused)
        self.free.put(buffer)
        good_rows = len(columns[0])
        if refused:
            columns = [pa.concat_arrays([column, pa.nulls(len(refused), pa.string())]) for column in columns]
        broken = pa.concat_arrays([pa.nulls(good_rows, pa.string()), pa.array(refused, pa.string())])
        return pa.record_batch([*columns, broken], schema=self.schema)

    def columns(self, lines: memoryview, refused: list[str]) -> list[pa.Array]:
        """Parse the wanted fields of lines in UTF-8; `refused` gets the reason for each line of another width."""
        before = len(refused)

        def ragged(row: Any) -> str:
            refused.append(BLANK if self.is_blank(row.text.encode()) else RAGGED)
            return "skip"

        names = [str(position) for position in range(self.width)]
        wanted = [str(position) for position in self.positions.values()]
        parsing = pa.csv.ParseOptions(delimiter=self.delimiter, quote_char=False, invalid_row_handler=ragged)
        converting = pa.csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(dict.fromkeys(wanted)),
            strings_can_be_null=False,
        )
        for size in (1 << 20, len(lines) + 1):  # small ones stay in the cache; a line has to fit in one
            reading = pa.csv.ReadOptions(use_threads=False, block_size=size, column_names=names)
            try:
                table = pa.csv.read_csv(pa.BufferReader(lines), reading, parsing, converting)
                return [table[name].combine_chunks() for name in wanted]
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):
                    break
                if size > len(lines) or "straddl" not in str(error):
                    raise
                del refused[before:]
        return [pa.nulls(0, pa.string())] * len(wanted)

    def is_blank(self, line: bytes) -> bool:
        """Return whether a line has delimiters, and nothing else but blanks."""
        delimiter = self.delimiter.encode()
        return line.startswith(delimiter) and not line.replace(delimiter, b"").strip()


def may_be_blank(columns: list[pa.Array]) -> bool:
    """Return whether some row has nothing, or a blank first, in each column; only one byte of a text is looked at."""
    rows = np.arange(len(columns[0]))
    for column in columns:
        if not len(rows):
            return False
        _, ends, text = column.buffers()
        ends = np.frombuffer(ends, np.int32)[column.offset :]
        begin = ends[rows]
        empty = begin == ends[rows + 1]
        if text:
            first = np.frombuffer(text, np.uint8).take(begin, mode="clip")
            empty |= first == ord(" ")
        rows = rows[empty]
    return len(rows) > 0


def is_utf8(text: bytes | memoryview) -> bool:
    """Return whether these bytes are UTF-8: NumPy knows ASCII at once, Arrow looks at the rest without making a str."""
    each = np.frombuffer(text, np.uint8)
    words = len(each) // 8 * 8
    high = np.bitwise_or.reduce(each[:words].view(np.uint64)) & 0x8080808080808080
    if not high and not (each[words:] > 127).any():
        return True
    ends = pa.py_buffer(np.array([0, len(each)], np.int32))
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(text)]).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True
