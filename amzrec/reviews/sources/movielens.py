"""MovieLens: 100K (u.data), 1M and 10M (::), 20M, 25M, 32M and latest (CSV), with titles, genres, years, customers."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from amzrec.reviews.engines.protocol import Engine
from amzrec.reviews.relation import Facts, Source
from amzrec.reviews.sources.catalogue import unreadable
from amzrec.reviews.sources.columns import guessed_columns
from amzrec.reviews.sources.plain import TextFile
from amzrec.reviews.sources.shape import shape_of
from amzrec.reviews.sources.tables import TableFile, read_table

FORMATS = {
    "movielens-100k": "MovieLens 100K: u.data or u1.base beside u.item",
    "movielens-1m": "MovieLens 1M: ratings.dat beside movies.dat and users.dat",
    "movielens-10m": "MovieLens 10M: ratings.dat beside movies.dat",
    "movielens-latest": "MovieLens 20M, 25M, 32M, latest: ratings.csv beside movies.csv",
}
COLUMNS = ("customer_id", "product_id", "stars", "timestamp")  # a file may end before the last ones
HALF_STARS = ("movielens-10m", "movielens-latest")
YEAR = re.compile(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
# The occupation codes of the README of MovieLens 1M
OCCUPATIONS = (
    "other", "educator", "artist", "admin", "student", "customer service", "healthcare", "executive", "farmer",
    "homemaker", "K-12 student", "lawyer", "programmer", "retired", "sales", "scientist", "self-employed",
    "engineer", "craftsman", "unemployed", "writer",
)  # fmt: skip
OCCUPATION_OF = {str(code): occupation for code, occupation in enumerate(OCCUPATIONS)}


def reviews_file(folder: Path) -> Path | None:
    """Return the file of ratings in a MovieLens folder, or None where it is not one."""
    if (folder / "u.data").is_file():
        return folder / "u.data"
    for name in ("ratings.dat", "ratings.csv"):
        if (folder / name).is_file() and ((folder / "movies.dat").is_file() or (folder / "movies.csv").is_file()):
            return folder / name
    return None


def format_of(file: Path) -> str | None:
    """Return the format of a ratings file that stands in a MovieLens folder, or None."""
    folder = file.parent
    if (folder / "u.item").is_file() and re.fullmatch(r"u\.data|u[\w]+\.(base|test)", file.name):
        return "movielens-100k"
    if re.fullmatch(r"ratings.*\.dat|r.\.(train|test)", file.name) and (folder / "movies.dat").is_file():
        return "movielens-1m" if (folder / "users.dat").is_file() else "movielens-10m"
    if file.name == "ratings.csv" and (folder / "movies.dat").is_file():
        return "movielens-1m"
    if file.name == "ratings.csv" and (folder / "movies.csv").is_file():
        return "movielens-latest"
    return None


def open_movielens(engine: Engine, name: str, text: TextFile, format: str) -> Source:
    """Open a MovieLens ratings file, with what its folder knows of movies and users."""
    file = text.path
    shape = shape_of(file, text.name)
    if shape.names:
        columns = guessed_columns(shape.names)
    else:
        columns = {ours: str(i) for i, ours in enumerate(COLUMNS[: max(2, shape.width)])}
    return Source(
        name=name,
        format=format,
        columns=columns,
        parts=(read_table(engine, TableFile(text, shape), columns),),
        scale=(0.5, 5.0) if format in HALF_STARS else (1.0, 5.0),
        products=movies(file.parent),
        customers=users(file.parent),
    )


def movies(folder: Path) -> Facts:
    """Read titles, genres and years by movie id, from u.item, movies.dat (both latin-1) or movies.csv."""
    facts: Facts = {}
    if (folder / "u.item").is_file():
        genres = [line.split("|")[0] for line in text_lines(folder / "u.genre", "latin-1")]
        for line in text_lines(folder / "u.item", "latin-1"):
            number, _, rest = line.partition("|")
            flags = rest.split("|")[-len(genres) :] if genres else []
            facts[number] = movie(rest.split("|")[0], [g for g, f in zip(genres, flags, strict=False) if f == "1"])
    elif (folder / "movies.dat").is_file():
        for line in text_lines(folder / "movies.dat", "utf-8" if is_utf8(folder / "movies.dat") else "latin-1"):
            number, _, rest = line.partition("::")
            title, _, genre = rest.rpartition("::")
            facts[number] = movie(title, genre.split("|"))
    elif (folder / "movies.csv").is_file():
        with (folder / "movies.csv").open(encoding="utf-8", errors="replace", newline="") as file:
            try:
                for row in csv.DictReader(file):
                    title, genres = row.get("title") or "", (row.get("genres") or "").split("|")
                    facts[row.get("movieId") or ""] = movie(title, genres)
            except csv.Error as error:
                raise unreadable(folder / "movies.csv", error) from error
    facts.pop("", None)
    return facts


def movie(title: str, genres: list[str]) -> tuple[str | None, list[str]]:
    """Return title and features of one movie; `(no genres listed)` and `unknown` are no genres."""
    year = YEAR.search(title)
    features = [f"genre={g}" for g in genres if g and g not in ("unknown", "(no genres listed)")]
    return title.strip() or None, features + ([f"year={year[1]}"] if year else [])


def users(folder: Path) -> Facts:
    """Read age, gender and occupation by user id, from u.user or users.dat."""
    facts: Facts = {}
    for line in text_lines(folder / "u.user", "latin-1"):
        number, age, gender, occupation, *_ = [*line.split("|"), "", "", ""]
        facts[number] = None, person(age, gender, occupation)
    for line in text_lines(folder / "users.dat", "latin-1"):
        number, gender, age, code, *_ = [*line.split("::"), "", "", ""]
        facts[number] = None, person(age, gender, OCCUPATION_OF.get(code.lstrip("0") or code, code))
    return facts


def person(age: str, gender: str, occupation: str) -> list[str]:
    """Return the features of one customer; what is not known is left out."""
    return [f"{k}={v}" for k, v in (("age", age), ("gender", gender), ("occupation", occupation)) if v]


def text_lines(path: Path, encoding: str) -> list[str]:
    """Return the non-blank lines of a small file; none where it is absent."""
    return [line for line in path.read_text(encoding).splitlines() if line.strip()] if path.is_file() else []


def is_utf8(path: Path) -> bool:
    """Return whether all of a small file is UTF-8 (the 10M movies.dat is, the 1M one is latin-1)."""
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError:
        return False
    return True
