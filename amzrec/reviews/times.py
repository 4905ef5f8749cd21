"""How times are written: one format per column, found from its values, and read by an expression of any engine."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

import ibis

from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Column

SECONDS, DAYS, ORDER = "seconds", "days", "order"  # formats of numbers: since 1970, of a spreadsheet, any that grow
FIRST, LAST = 0, 4_102_444_800  # 1970 and 2100: reviews are not older or younger
OLD = 631_152_000  # 1990: times before it are looked at twice
EPOCH_OF_SHEETS = 25_569  # days from 1899-12-30 to 1970
PIECES = {  # of a format as strptime takes it → a regular expression
    "Y": r"(\d{4})", "y": r"(\d{2})", "m": r"(\d{1,2})", "d": r"(\d{1,2})(?:st|nd|rd|th|er|º)?",
    "b": r"([A-Za-zÀ-ÿ]{3,10})\.?",
    "H": r"(\d{1,2})", "I": r"(\d{1,2})", "M": r"(\d{1,2})", "S": r"(\d{1,2})", "p": r"([AaPp])\.?[Mm]\.?",
    "z": r"(Z|UTC|GMT|[+-]\d{2}:?\d{2})", "a": r"[A-Za-zÀ-ÿ-]{2,13}\.?", "f": r"\d+", "T": r"(\d{1,2}):(\d{2}):(\d{2})",
}  # fmt: skip
FIXED = {"Y": r"(\d{4})", "y": r"(\d{2})", "m": r"(\d{2})", "d": r"(\d{2})", "H": r"(\d{2})", "M": r"(\d{2})"}
SAME = {"B": "b", "A": "a", "e": "d", "Z": "z"}
BEFORE = r"(?:.*\b(?:on|vom|le|el|il|em) )?"  # Reviewed in Canada on May 27, 2014
CLOCK = r"(?:[ T,]+(?:(?:at|um|à|a las|alle|às) )?(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(?: ?([AaPp])\.?[Mm]\.?)?)?"
ZONE = r"(?: ?(Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
MONTHS = (  # how their names begin in English, German, French, Spanish, Italian, Portuguese, Dutch: no two alike
    ("jan", "jän", "jaen", "ene", "gen"), ("feb", "fév", "fev"), ("mar", "mär", "mae", "mrz", "maa"),
    ("apr", "avr", "abr"), ("may", "mai", "mag", "mei"), ("jun", "juin", "giu"), ("jul", "juil", "lug"),
    ("aug", "aoû", "aou", "ago"), ("sep", "set"), ("oct", "okt", "ott", "out"), ("nov",), ("dec", "déc", "dez", "dic"),
)  # fmt: skip
ISO = "%Y-%m-%d"
NUMERIC = [order.replace(" ", mark) for mark in "/.-" for order in ("%m %d %Y", "%d %m %Y", "%m %d %y", "%d %m %y")]
FORMATS = (
    ISO, "%Y/%m/%d", "%Y.%m.%d", *NUMERIC, "%m %d, %Y", "%b %d, %Y", "%b %d %Y", "%d %b %Y", "%d. %b %Y", "%d-%b-%Y",
    "%d-%b-%y", "%d %b, %Y", "%d de %b de %Y", "%a, %d %b %Y", "%a %d %b %Y", "%a, %d. %b %Y", "%a, %d de %b de %Y",
    "%a, %b %d, %Y", "%a %b %d %Y", "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
)  # fmt: skip


class Pattern(NamedTuple):
    """A format as a regular expression."""

    text: str
    fields: str  # which letter of strptime each group is


@functools.cache
def pattern_of(format: str) -> Pattern:
    """Return the pattern of a format; a time of day and a zone may follow where it names none.

    Raises AmzrecError for a letter that is not known.
    """
    packed = re.fullmatch(r"(%[A-Za-z])+", format) is not None  # %Y%m%d
    text, fields = "", ""
    for piece in re.findall(r"%.|[^%]+", format):
        letter = SAME.get(piece[1:], piece[1:])
        if not piece.startswith("%"):
            text += re.sub(r"(?:\\?\s)+", r"\\s+", re.escape(piece))
        elif letter in PIECES:
            text += FIXED.get(letter, PIECES[letter]) if packed else PIECES[letter]
            fields += {"T": "HMS", "I": "H", "a": "", "f": ""}.get(letter, letter)
        else:
            raise AmzrecError(
                f"--time-format {format!r} has {piece!r}; allowed: %{', %'.join([*PIECES, 'B', 'A'])}, seconds and days"
            )
    if "H" not in fields:
        text, fields = text + CLOCK, fields + "HMSp"
    if "z" not in fields:
        text, fields = text + ZONE, fields + "z"
    before = BEFORE if "%b" in format else ""
    return Pattern(rf"^\s*{before}{text}\s*$", fields)


def check_format(format: str) -> str:
    """Return a format that a person gave; raises AmzrecError where it is none."""
    if format not in (SECONDS, DAYS, ORDER) and not set(pattern_of(format).fields) & set("Yy"):
        raise AmzrecError(f"--time-format is {format!r}; allowed: seconds, days, or such as %d/%m/%Y, %Y-%m-%d %H:%M")
    return format


def seconds_of(column: Column, format: str) -> Column:
    """Return unix seconds of a column of text or numbers written in this format, null for what is not."""
    if column.type().is_timestamp() or column.type().is_date():
        return within(column.cast("timestamp").truncate("s").epoch_seconds().cast("int64"))
    text = column.cast("string").strip()
    number = text.try_cast("float64")
    if format == SECONDS:
        whole = ibis.cases((number.abs() < 2**62, number.cast("int64")), else_=ibis.null().cast("int64"))
        finer = [
            (number > 1e11 * 1000**step, (number / 1000 ** (step + 1)).floor().cast("int64")) for step in (2, 1, 0)
        ]
        value = ibis.cases((number >= 2**62, ibis.null().cast("int64")), *finer, else_=whole)
        return ibis.cases((value >= OLD, within(value)), else_=ibis.null().cast("int64"))
    if format == DAYS:
        return within(((number - EPOCH_OF_SHEETS) * 86400).round().try_cast("int64"))
    pattern = pattern_of(format)
    text = text.re_replace(r"\.0$", "")
    found = {letter: text.re_extract(pattern.text, number) for number, letter in enumerate(pattern.fields, start=1)}
    year = found["Y"] if "Y" in found else ibis.cases((found["y"] < "70", "20"), else_="19").concat(found["y"])
    month = month_of(found["b"]) if "b" in found else found.get("m", ibis.literal("01"))
    day = found.get("d", ibis.literal("01"))
    date = year.concat("-", padded(month), "-", padded(day)).try_cast("timestamp").epoch_seconds().cast("int64")
    clock = of_clock(found)
    return within(ibis.cases((text.re_search(pattern.text), date + clock), else_=ibis.null().cast("int64")))


def within(value: Column) -> Column:
    """Return times between 1970 and 2100, null for others."""
    return ibis.cases(((value >= FIRST) & (value < LAST), value), else_=ibis.null().cast("int64"))


def padded(text: Column) -> Column:
    """Return a number of one or two digits with two."""
    return ibis.cases((text.length() == 1, ibis.literal("0").concat(text)), else_=text)


def month_of(name: Column) -> Column:
    """Return the number of a month as text, from its name or the first letters of it."""
    lower = name.lower()
    begins = (ibis.or_(*(lower.startswith(start) for start in starts)) for starts in MONTHS)
    return ibis.cases(*((begun, f"{n:02d}") for n, begun in enumerate(begins, start=1)), else_="00")


def of_clock(found: dict[str, Column]) -> Column:
    """Return the seconds of day of the clock, less what the zone is ahead."""

    def number(letter: str) -> Column:
        return ibis.coalesce(found[letter].try_cast("int64"), 0) if letter in found else ibis.literal(0, "int64")

    hour = number("H")
    if "p" in found:
        half = found["p"].lower()
        noon, midnight = (half == "p") & (hour < 12), (half == "a") & (hour == 12)
        hour = ibis.cases((noon, hour + 12), (midnight, ibis.literal(0, "int64")), else_=hour)
    seconds = hour * 3600 + number("M") * 60 + number("S")
    if "z" in found:
        zone = found["z"].replace(":", "")
        ahead = (
            ibis.coalesce(zone[1:3].try_cast("int64"), 0) * 3600 + ibis.coalesce(zone[3:5].try_cast("int64"), 0) * 60
        )
        seconds -= ibis.cases((zone.startswith("+"), ahead), (zone.startswith("-"), -ahead), else_=0)
    return seconds


class Found(NamedTuple):
    """The format of a column."""

    format: str | None  # None: none fits
    note: str = ""  # what to tell of it


def found(values: Iterable[str]) -> Found:
    """Find the one format that fits most of these values, all different."""
    texts = [text for value in values if (text := value.strip())]
    numbers = [float(text) for text in texts if re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text)]
    if len(numbers) > len(texts) / 2:
        return of_numbers(numbers)
    fits = {format: sum(is_date(text, format) for text in texts) for format in FORMATS}
    best = max(fits, key=lambda format: fits[format])
    if not fits[best]:
        return Found(None)
    other = swapped(best)
    example = next(text for text in texts if is_date(text, best))
    if other and fits.get(other) == fits[best]:
        best = best if "/" in best or best.startswith("%d") else other  # month first only between slashes
        return Found(
            best,
            f"times such as {example!r} may be {best} or {swapped(best)}: read as {best}; --time-format "
            f"{swapped(best)} is the other way round",
        )
    return Found(
        best, "" if best == ISO else f"times such as {example!r} are read as {best}; --time-format names another"
    )


def swapped(format: str) -> str | None:
    """Return the format with day and month the other way round, where it has numbers for both first."""
    if not re.match(r"%[md].%[md]", format):
        return None
    return format.translate(str.maketrans("md", "dm"))


def is_date(text: str, format: str) -> bool:
    """Return whether a text is a date of this format."""
    pattern = pattern_of(format)
    match = re.match(pattern.text, text)
    if not match:
        return False
    piece = dict(zip(pattern.fields, match.groups(), strict=True))
    if "b" in piece:
        name = piece["b"].lower()
        month = next((number for number, starts in enumerate(MONTHS, start=1) if name.startswith(starts)), 0)
    else:
        month = int(piece["m"])
    year = int(piece["Y"]) if "Y" in piece else (2000 if piece["y"] < "70" else 1900) + int(piece["y"])
    try:
        datetime.date(year, month, int(piece["d"]))
    except ValueError:
        return False
    return True


def of_numbers(numbers: list[float]) -> Found:
    """Find what numbers stand for: most of those above 0 decide."""
    above = [number for number in numbers if number > 0]
    texts = [f"{number:.0f}" for number in above]

    def most(good: Iterable[bool]) -> bool:
        return sum(good) > 0.8 * len(above)

    if not above or (most(number >= 1e8 for number in above) and not most(len(t) == 14 for t in texts)):
        return Found(SECONDS)
    for format, width in (("%Y%m%d", 8), ("%Y%m%d%H%M", 12), ("%Y%m%d%H%M%S", 14)):
        if most(len(text) == width and is_date(text, format) and "19" <= text[:2] <= "20" for text in texts):
            return Found(format, f"times such as {texts[0]} are read as {format}; --time-format names another")
    if most(1900 <= number <= 2100 and number.is_integer() for number in above) and len(above) > 1:
        return Found("%Y", f"times such as {texts[0]} are read as years; --time-format names another")
    if most(20_000 <= number <= 80_000 for number in above):
        example = f"{above[0]:g}"
        return Found(DAYS, f"times such as {example} are read as a spreadsheet's days; --time-format names another")
    return Found(
        ORDER, f"times such as {texts[0]} are no dates: they count as an order; --time-format says what they are"
    )
