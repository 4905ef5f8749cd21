"""Sources in S3 (moto on the loopback) and on the web: read as the files that they are, or refused well."""

from __future__ import annotations

import base64
import gzip
import json
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import servers
from amzrec import AmzrecError, PrepareConfig, prepare
from amzrec.reviews import cache
from amzrec.reviews.sources import address, buckets, remote

SIDE = 20
HEAD = "customer_id,product_id,stars\n"
LINES = [f"c{c},p{p},{(c + p) % 5 + 1}\n" for c in range(SIDE) for p in range(SIDE)]
CSV = HEAD + "".join(LINES)
TITLES = "product_id,title\n" + "".join(f"p{p},Rope {p}\n" for p in range(SIDE))
TABLE = pa.table(
    {
        "customer_id": [f"c{c}" for c in range(SIDE) for _ in range(SIDE)],
        "product_id": [f"p{p}" for _ in range(SIDE) for p in range(SIDE)],
        "stars": [float((c + p) % 5 + 1) for c in range(SIDE) for p in range(SIDE)],
    }
)


def parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def json_lines() -> bytes:
    """Return the table as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()).encode()


CONTENT: dict[str, bytes] = {
    "one/reviews.csv": CSV.encode(),
    "one/reviews.tsv": CSV.replace(",", "\t").encode(),
    "one/reviews.csv.gz": gzip.compress(CSV.encode()),
    "one/reviews.jsonl": json_lines(),
    "one/reviews.jsonl.gz": gzip.compress(json_lines()),
    "one/reviews.parquet": parquet(TABLE),
    "many/part-0.csv": (HEAD + "".join(LINES[:150])).encode(),
    "many/part-1.csv": (HEAD + "".join(LINES[150:])).encode(),
    "many/_SUCCESS": b"",
    "many/.hidden.csv": b"x,y\n",
    "deep/a/part-0.parquet": parquet(TABLE.slice(0, 150)),
    "deep/b/part-0.parquet": parquet(TABLE.slice(150)),
    "u/u.data": b"".join(
        f"{c}\t{p}\t{(c + p) % 5 + 1}\t88125094{c % 10}\n".encode() for c in range(30) for p in range(30)
    ),
    "u/u.item": b"".join(f"{p}|Rope {p}|01-Jan-1995||http://x|{'|'.join('0' * 19)}\n".encode() for p in range(30)),
    "titles.csv": TITLES.encode(),
    "words.txt": b"no table at all\n" * 9,
}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """moto's S3, whose bucket `shop` holds CONTENT."""
    with servers.s3() as endpoint:
        system = servers.bucket_of(endpoint)
        for key, content in CONTENT.items():
            with system.open_output_stream(f"shop/{key}") as stream:
                stream.write(content)
        yield endpoint


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """moto's S3, as the usual variables name it."""
    for name, value in (
        ("AWS_ENDPOINT_URL", s3_server),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.mark.parametrize(
    "source",
    [
        *(f"s3://shop/{key}" for key in CONTENT if key.startswith("one/")),
        "s3://shop/many",
        "s3://shop/many/",
        "s3://shop/many/part-*.csv",
        "s3://shop/m*y/part-[01].csv",
        "s3://shop/deep",
        "s3://shop/deep/**/*.parquet",
        "s3://key:secret@shop/one/reviews.csv",
    ],
)
def test_a_key_a_prefix_and_a_glob_are_read(s3: str, tmp_path: Path, source: str) -> None:
    dataset = prepare(source, tmp_path / "d")
    counts = dataset.info.counts
    assert (counts.read, counts.kept, counts.customers, counts.products) == (SIDE**2, SIDE**2, SIDE, SIDE)
    assert dataset.info.source == source.replace(":secret", ":***")
    assert sorted(path.name for path in (tmp_path / "d").iterdir() if path.suffix != ".parquet") == [
        "dataset.json",
        "manifest.json",
    ]


def test_movielens_in_a_bucket_is_known_with_its_titles(s3: str, tmp_path: Path) -> None:
    dataset = prepare("s3://shop/u", tmp_path / "d")
    assert dataset.info.format == "movielens-100k"
    assert dataset.products["title"].to_pylist()[1].startswith("Rope ")


def test_titles_and_test_reviews_come_from_a_bucket(s3: str, tmp_path: Path) -> None:
    config = PrepareConfig(
        titles="s3://shop/titles.csv", split="given", test_source="s3://shop/many/part-1.csv", valid=0
    )
    dataset = prepare("s3://shop/many/part-0.csv", tmp_path / "d", config)
    assert (dataset.info.counts.train, dataset.info.counts.test) == (150, 250)
    assert dataset.products["title"].to_pylist()[1].startswith("Rope ")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://shop/one/review.csv", r"there is no such key; s3://shop/one holds reviews.csv"),
        ("s3://nobody/one.csv", r"there is no bucket nobody"),
        ("s3://shop/many/*.parquet", r"no key matches"),
        ("s3://shop/none/*.parquet", r"no such key"),
        ("s3://", r"names no bucket"),
        ("s3://shop/words.txt", r"s3://shop/words.txt is no table"),
    ],
)
def test_what_a_bucket_does_not_hold_is_refused_in_one_line(s3: str, tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(AmzrecError, match=message) as refused:
        prepare(source, tmp_path / "d")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "d").exists()


def test_a_store_that_cannot_be_reached_is_named(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(AmzrecError, match=r"cannot be reached .*AWS_ENDPOINT_URL"):
        prepare("s3://shop/one/reviews.csv", tmp_path / "d")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("When reading: AWS Error ACCESS_DENIED during HeadObject operation: No response body.", "does not let us in"),
        ("When getting: AWS Error UNKNOWN (HTTP status 403) during HeadObject", "does not let us in .*AWS_PROFILE"),
        ("AWS Error INVALID_ACCESS_KEY_ID during ListObjectsV2 operation", "does not let us in"),
        ("AWS Error UNKNOWN (HTTP status 301) during HeadObject", "set AWS_REGION"),
        ("AWS Error NETWORK_CONNECTION during HeadObject: curlCode: 6, Could not resolve host", "cannot be reached"),
    ],
)
def test_what_amazon_says_becomes_what_to_do(message: str, said: str) -> None:
    with pytest.raises(AmzrecError, match=said):
        raise buckets.refused("s3://b/k", "s3", "b", message)


def test_a_bucket_marks_its_files_by_their_content(s3: str) -> None:
    """By their ETag: times are in seconds, and two contents of one second would have one mark."""
    system, marks = servers.bucket_of(s3), []
    for content in ("abc", "abd", "abc"):
        with system.open_output_stream("shop/marked.csv") as stream:
            stream.write(content.encode())
        marks.append(buckets.Bucket(address.parsed("s3://shop/marked.csv")).items()[0].mark)
    assert marks[0] == marks[2] != marks[1]


def test_the_cache_is_used_as_long_as_the_store_says_that_nothing_changed(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    system = servers.bucket_of(s3)
    with system.open_output_stream("shop/cached.csv") as stream:
        stream.write(CSV.encode())
    first = cache.dataset_of("s3://shop/cached.csv")
    monkeypatch.setattr(remote, "copied", lambda *_: pytest.fail("it was fetched again"))
    assert cache.dataset_of("s3://shop/cached.csv").path == first.path
    monkeypatch.undo()
    for name, value in (("AMZREC_CACHE", str(tmp_path / "cache")), ("AWS_ENDPOINT_URL", s3)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with system.open_output_stream("shop/cached.csv") as stream:
        stream.write(CSV.replace("c1,p1,3", "c1,p1,5").encode())  # as long as before
    assert cache.dataset_of("s3://shop/cached.csv").path != first.path


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "a/b.csv", False),
        ("**/*.csv", "a/b/c.csv", True),
        ("**/*.csv", "c.csv", True),
        ("year=20[12]?/x", "year=2014/x", True),
        ("[!a]", "a", False),
        ("a.b", "axb", False),
    ],
)
def test_globs_of_keys_are_those_of_files(glob: str, key: str, matches: bool) -> None:
    import re

    assert bool(re.fullmatch(buckets.pattern_of(glob), key)) == matches


# --- Google's store


@pytest.fixture(scope="session")
def google_server() -> Iterator[str]:
    """An emulator of Google's store, whose bucket `shop` holds CONTENT."""
    from pyarrow import fs

    with servers.google() as endpoint:
        host = endpoint.partition("://")[2]
        system = fs.GcsFileSystem(anonymous=True, endpoint_override=host, scheme="http")
        for key, content in CONTENT.items():
            with system.open_output_stream(f"shop/{key}") as stream:
                stream.write(content)
        yield endpoint


@pytest.mark.parametrize("path", ["one/reviews.csv.gz", "one/reviews.parquet", "many", "many/*.csv", "deep"])
def test_googles_store_is_read_like_amazons(
    google_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google_server)
    dataset = prepare(f"gs://shop/{path}", tmp_path / "d", PrepareConfig(titles="gs://shop/titles.csv"))
    assert dataset.info.counts.kept == SIDE**2
    assert dataset.products["title"].to_pylist()[1].startswith("Rope ")


def test_what_googles_store_does_not_hold_is_refused(
    google_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google_server)
    for source, message in (
        ("gs://shop/one/review.csv", r"there is no such key; gs://shop/one holds reviews.csv"),
        ("gs://nobody/one.csv", r"there is no bucket nobody"),
    ):
        with pytest.raises(AmzrecError, match=message):
            prepare(source, tmp_path / "d")
    with pytest.raises(AmzrecError, match=r"cannot be reached"):
        raise buckets.refused("gs://b/k", "gs", "b", "google::cloud::Status(UNAVAILABLE: Could not connect to server")
    with pytest.raises(AmzrecError, match=r"does not let us in .*GOOGLE_APPLICATION_CREDENTIALS"):
        raise buckets.refused("gs://b/k", "gs", "b", "google::cloud::Status(UNAUTHENTICATED: Permission denied")


# --- the web


class Site(SimpleHTTPRequestHandler):
    """A web server with what such servers do."""

    broken: ClassVar[dict[str, int]] = {}  # path → how often it still breaks off
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer as GET without the bytes; /nohead does not know it."""
        self.asked.append(f"HEAD {self.path}")
        if self.path.startswith("/nohead"):
            self.send_error(405)
        else:
            self.answer(b"")

    def do_GET(self) -> None:
        """Answer with the bytes."""
        self.asked.append(f"GET {self.path}")
        self.answer(None)

    def answer(self, body: bytes | None) -> None:
        """Send what a path stands for."""
        path = self.path.partition("?")[0].removeprefix("/nohead")
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/one/reviews.csv")
            self.end_headers()
            return
        login = base64.b64encode(b"ann:pass word").decode()
        if path == "/private" and self.headers.get("Authorization") != f"Basic {login}":
            self.send_error(401)
            return
        if path == "/page":
            content = b"<!DOCTYPE html><html><body>Sign in</body></html>"
        else:
            content = CONTENT.get("one/reviews.csv" if path in ("/private", "/get", "/plain") else path[1:], b"")
        if not content:
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        if path != "/plain":
            self.send_header("ETag", '"1"')
        if path == "/get":
            self.send_header("Content-Disposition", 'attachment; filename="my reviews.csv"')
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body is None:
            if self.broken.get(path, 0):
                self.broken[path] -= 1
                self.wfile.write(content[start : start + 500])
                self.close_connection = True
                return
            self.wfile.write(content[start:])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server on the loopback."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(folder / "ml.zip", "w") as archive:
        for name in ("u.data", "u.item"):
            archive.writestr(f"ml-100k/{name}", CONTENT[f"u/{name}"])
    CONTENT["ml.zip"] = (folder / "ml.zip").read_bytes()
    with servers.serving(Site, folder) as address:
        yield address


@pytest.mark.parametrize(
    "path",
    [
        *("/one/reviews.csv", "/one/reviews.csv.gz", "/one/reviews.jsonl", "/one/reviews.parquet", "/one/reviews.tsv"),
        *("/moved", "/get?id=3", "/nohead/one/reviews.csv", "/plain", "/one/reviews.csv?X-Amz-Signature=abc"),
    ],
)
def test_a_file_on_the_web_is_read(site: str, tmp_path: Path, path: str) -> None:
    dataset = prepare(site + path, tmp_path / "d")
    assert dataset.info.counts.kept == SIDE**2
    assert dataset.info.source == site + path.replace("=abc", "=***")


def test_a_zip_of_movielens_on_the_web_is_known(site: str, tmp_path: Path) -> None:
    assert prepare(f"{site}/ml.zip", tmp_path / "d").info.format == "movielens-100k"


def test_titles_come_from_the_web_and_a_login_stands_in_no_file(site: str, tmp_path: Path) -> None:
    private = site.replace("http://", "http://ann:pass%20word@") + "/private"
    dataset = prepare(private, tmp_path / "d", PrepareConfig(titles=f"{site}/titles.csv"))
    assert dataset.products["title"].to_pylist()[1].startswith("Rope ")
    assert dataset.info.source == private.replace("pass%20word", "***")
    assert not any(b"pass%20word" in file.read_bytes() for file in (tmp_path / "d").iterdir())


def test_a_download_that_breaks_goes_on_where_it_broke(site: str, tmp_path: Path) -> None:
    Site.broken["/one/reviews.csv"] = 2
    assert prepare(f"{site}/one/reviews.csv", tmp_path / "d").info.counts.kept == SIDE**2
    Site.broken["/one/reviews.csv"] = 9
    with pytest.raises(AmzrecError, match=r"broke off 4 times, the last time after 2,000 of"):
        prepare(f"{site}/one/reviews.csv", tmp_path / "e")
    Site.broken.clear()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none.csv", r"answers 404 .*there is nothing under this address"),
        ("/private", r"answers 401 .*it wants a login"),
        ("/page", r"gives a web page, not data"),
        ("/words.txt", r"/words.txt is no table"),
    ],
)
def test_what_is_no_data_on_the_web_is_refused_in_one_line(site: str, tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(AmzrecError, match=message) as refused:
        prepare(site + path, tmp_path / "d")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid"])
def test_a_host_that_cannot_be_reached_is_named(tmp_path: Path, host: str) -> None:
    with pytest.raises(AmzrecError, match=f"{host} cannot be reached"):
        prepare(f"https://ann:secret@{host}/reviews.csv", tmp_path / "d")


def test_the_cache_asks_the_web_whether_something_changed(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    first = cache.dataset_of(f"{site}/one/reviews.tsv")
    Site.asked.clear()
    assert cache.dataset_of(f"{site}/one/reviews.tsv").path == first.path
    assert Site.asked == ["HEAD /one/reviews.tsv"]
    plain = cache.dataset_of(f"{site}/plain")  # says nothing of changes
    Site.asked.clear()
    assert cache.dataset_of(f"{site}/plain").path == plain.path
    assert "GET /plain" in Site.asked


def test_refused_rows_are_listed_under_the_address(site: str, tmp_path: Path) -> None:
    CONTENT["dirty.csv"] = (CSV + "c1,,3\n").encode()
    dataset = prepare(f"{site}/dirty.csv", tmp_path / "d")
    assert [row["file"] for row in pq.read_table(dataset.path / "rejects.parquet").to_pylist()] == [f"{site}/dirty.csv"]
