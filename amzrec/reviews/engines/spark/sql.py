"""Ibis expressions as Spark SQL that means what DuckDB's means: text as numbers and times, splits, blanks."""

from __future__ import annotations

import re
from typing import Any

import ibis.expr.datatypes as dt
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.pyspark import PySparkCompiler

NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"  # Spark alone would also take 5f and 5d
DATE = r"^\s*(\d{4})([-/ \\])(\d{1,2})\2(\d{1,2})"
TIME = r"^\d{4}-\d{1,2}-\d{1,2}([ T] *\d{1,2}:\d{1,2}(:\d{1,2}(\.\d*)?)?)?$"  # Spark alone would also take 2015-08
ZONE = r"(:\d{1,2}(\.\d*)?)( UTC|Z|[+-]\d{2}(:?\d{2})?)$"
BLANKS = (9, 10, 11, 12, 13)  # Spark reads \v and \f in a literal as the letters v and f


class SparkSQL(PySparkCompiler):  # type: ignore[misc]
    """Ibis' compiler for Spark; it differs from Ibis' own where Spark's functions do not do what DuckDB's do."""

    __slots__ = ()

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """Take text for a number or a time in those forms that DuckDB takes; round halves of decimals as it does."""

        def cast(value: Any, type: Any) -> Any:
            return sge.TryCast(this=value, to=self.type_mapper.from_ibis(type), safe=True)

        dtype = op.arg.dtype
        if dtype.is_floating() and to.is_integer():
            return cast(self.f.rint(arg), to)
        if not dtype.is_string():
            return cast(arg, to)
        if to.is_timestamp():
            date = self.f.regexp_replace(arg, DATE, "$1-$3-$4")
            whole = self.f.regexp_replace(date, ZONE, "$1")
            return self.if_(self.f.anon.rlike(whole, TIME), cast(whole, to), sge.Null())
        if to.is_integer():
            rounded = cast(self.f.round(cast(arg, dt.Decimal(38, 9))), to)
            return self.if_(self.f.anon.rlike(arg, NUMBER), self.f.coalesce(cast(arg, to), rounded), sge.Null())
        if to.is_floating():
            return self.if_(self.f.anon.rlike(arg, NUMBER), cast(arg, to), sge.Null())
        return cast(arg, to)

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """Write large whole numbers that are floats in the file without exponent: ids are 10000000.0, not 1.0E7."""
        text = self.cast(arg, to)
        if not (op.arg.dtype.is_floating() and to.is_string()):
            return text
        whole = self.cast(arg, dt.int64)
        plain = sge.and_(self.f.abs(arg) < 10**15, arg.eq(whole))
        return self.if_(plain, self.f.concat(self.cast(whole, to), ".0"), text)

    def visit_IsInf(self, op: Any, *, arg: Any) -> Any:
        """Compare with both infinities in SQL: Ibis 12 compares when it compiles, which is never true."""
        return sge.or_(arg.eq(self.POS_INF), arg.eq(self.NEG_INF))

    def visit_StringSplit(self, op: Any, *, arg: Any, delimiter: Any) -> Any:
        """Split at the delimiter as text, not as a pattern."""
        return self.f.split(arg, sge.convert(re.escape(op.delimiter.value)))

    def visit_Strip(self, op: Any, *, arg: Any) -> Any:
        """Cut off the white space on both sides, of every kind that DuckDB cuts off."""
        return self.f.anon.btrim(arg, self.f.concat(" ", *(self.f.anon.char(code) for code in BLANKS)))

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        """Write the groups of a replacement as Java does: $1."""
        return self.f.regexp_replace(arg, pattern, sge.convert(re.sub(r"\\(\d)", r"$\1", op.replacement.value)))
