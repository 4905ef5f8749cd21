"""Object stores, Amazon's S3 and those that speak like it, and Google's, through the file systems of Arrow."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote

from pyarrow import fs

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.address import Address
from amzrec.reviews.sources.folder import is_table
from amzrec.reviews.sources.stores import BLOCK, Item

UNREACHABLE = re.compile(r"NETWORK_CONNECTION|curlCode: (6|7|28|35)|resolve|connect|TIMEOUT|UNAVAILABLE", re.IGNORECASE)
DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|FORBIDDEN|HTTP status 40[13]|permission|credential", re.IGNORECASE
)
WILD = re.compile(r"[*?\[]")
TIMEOUT = 10  # seconds until a store that does not answer is given up
AT_ONCE = 16  # questions to the store
HOW = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or ~/.aws, and AWS_ENDPOINT_URL for a store that "
    "is not Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
}


class Bucket:
    """One key, prefix or glob in a bucket."""

    def __init__(self, address: Address) -> None:
        self.scheme, self.shown = address.scheme, address.shown
        authority, _, key = address.url.partition("://")[2].partition("/")
        login, _, self.bucket = authority.rpartition("@")
        self.key = key.strip("/")
        self.path = f"{self.bucket}/{self.key}".strip("/")
        if not self.bucket:
            raise AmzrecError(f"{self.shown} names no bucket: write {self.scheme}://BUCKET/KEY, a prefix or a glob")
        with self.speaking():
            self.system = FILE_SYSTEMS[self.scheme](self.bucket, login)

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Turn what the store refuses into an AmzrecError."""
        try:
            yield
        except OSError as error:
            raise refused(self.shown, self.scheme, self.bucket, str(error)) from error

    def items(self) -> list[Item]:
        """List the key itself, what a glob matches, or the files under a prefix: tables, or all where none is one."""
        with self.speaking():
            found = self.system.get_file_info(self.path)
            if found.type == fs.FileType.File:
                return self.marked([(PurePosixPath(self.path).name, found)])
            if WILD.search(self.key):
                return self.marked(self.matching())
            if found.type == fs.FileType.NotFound:
                self.complain()
            files = self.below(self.path)
        if not files:
            raise AmzrecError(f"{self.shown} holds no files: name a key, a prefix or a glob that has some")
        return self.marked([file for file in files if is_table(Path(file[0]))] or files)

    def below(self, folder: str) -> list[tuple[str, Any]]:
        """List the files under a prefix, by their names in it; those that begin with . or _ are not data."""
        found = self.system.get_file_info(fs.FileSelector(folder, recursive=True))
        named = [(file.path.removeprefix(folder).strip("/"), file) for file in found if file.type == fs.FileType.File]
        return sorted(
            (pair for pair in named if not re.search(r"(^|/)[._]", pair[0]) and pair[1].size),
            key=lambda pair: pair[0],
        )

    def matching(self) -> list[tuple[str, Any]]:
        """List the files that a glob matches, by their names under its fixed part."""
        fixed = self.path[: WILD.search(self.path).start()].rpartition("/")[0]  # type: ignore[union-attr]
        if self.system.get_file_info(fixed).type == fs.FileType.NotFound:
            self.complain()
        pattern = re.compile(pattern_of(self.path[len(fixed) :].strip("/")))
        found = [pair for pair in self.below(fixed) if pattern.fullmatch(pair[0])]
        if not found:
            raise AmzrecError(f"no key matches {self.shown}: ** matches also /, * does not")
        return found

    def complain(self) -> None:
        """Raise the error for a key that is not there: with the keys that are near, or because there is no bucket."""
        if self.system.get_file_info(self.bucket).type == fs.FileType.NotFound:
            raise AmzrecError(f"{self.shown}: there is no bucket {self.bucket}, or these credentials do not see it")
        beside = str(PurePosixPath(self.path).parent)
        there = self.system.get_file_info(fs.FileSelector(beside, allow_not_found=True))
        near = [PurePosixPath(file.path).name for file in there]
        listed = f"{self.scheme}://{beside} holds {', '.join(sorted(near)[:8])}" if near else "nothing is near it"
        raise AmzrecError(f"{self.shown}: there is no such key; {listed}")

    def marked(self, files: list[tuple[str, Any]]) -> list[Item]:
        """Return the files with the ETag that the store gives each, or its time and size."""

        def mark(file: Any) -> str:
            with self.system.open_input_stream(file.path) as stream:
                told = {name.lower(): value for name, value in (stream.metadata() or {}).items()}  # text → bytes
            return told.get("etag", b"").decode() or f"{file.mtime_ns}"

        with self.speaking(), ThreadPoolExecutor(AT_ONCE) as pool:
            marks = list(pool.map(mark, (file for _, file in files)))
        return [Item(name, file.path, file.size, m) for (name, file), m in zip(files, marks, strict=True)]

    def fetch(self, item: Item, target: BinaryIO, tell: Callable[[int], None]) -> None:
        """Write the bytes of a key."""
        with self.speaking(), self.system.open_input_stream(item.key) as stream:
            while block := stream.read(BLOCK):
                target.write(block)
                tell(len(block))


def pattern_of(glob: str) -> str:
    """Return a glob as a regular expression: * and ? stay within a folder, ** goes through any number of them."""
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        pieces.get(piece) or (f"[{piece[1:-1].replace('!', '^', 1) if piece[1] == '!' else piece[1:-1]}]"
                              if len(piece) > 2 and piece[0] == "[" else re.escape(piece))
        for piece in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", glob, re.DOTALL)
    )  # fmt: skip


def amazon(bucket: str, login: str) -> Any:
    """Open S3: credentials, region and endpoint come from where Amazon's own programs take them."""
    key, _, secret = login.partition(":")
    options: dict[str, Any] = {"access_key": key, "secret_key": unquote(secret)} if secret else {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
        region = region or "us-east-1"
    elif not region:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region,
        connect_timeout=TIMEOUT,
        request_timeout=6 * TIMEOUT,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
        **options,
    )


def google(bucket: str, login: str) -> Any:
    """Open Google's store: with the credentials of this machine, else as anybody, which public buckets allow."""
    options: dict[str, Any] = {"retry_time_limit": datetime.timedelta(seconds=3 * TIMEOUT)}
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        scheme, _, host = emulator.rpartition("://")
        return fs.GcsFileSystem(anonymous=True, endpoint_override=host.rstrip("/"), scheme=scheme or "http", **options)
    kept = Path.home() / ".config" / "gcloud" / "application_default_credentials.json"
    known = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or kept.exists() or os.environ.get("GCE_METADATA_HOST")
    return fs.GcsFileSystem(anonymous=not known, **options)


FILE_SYSTEMS: dict[str, Callable[[str, str], Any]] = {"s3": amazon, "gs": google}


def refused(shown: str, scheme: str, bucket: str, message: str) -> AmzrecError:
    """Return the error for what a store refuses."""
    said = re.sub(r"\s+", " ", message)
    short = found[1][:200] if (found := re.search(r"(AWS Error .*|curlCode.*)", said)) else said[:200]
    if UNREACHABLE.search(said):
        return AmzrecError(
            f"{shown}: the store cannot be reached ({short}): check the network, and {HOW[scheme].split(', and ')[-1]}"
        )
    if DENIED.search(said):
        return AmzrecError(f"{shown}: the store does not let us in ({short}). Credentials come from {HOW[scheme]}")
    if re.search(r"NO_SUCH_BUCKET|NoSuchBucket|Bucket .* not found", said):
        return AmzrecError(f"{shown}: there is no bucket {bucket}")
    if "301" in said or "REDIRECT" in said.upper():
        return AmzrecError(f"{shown}: the bucket is in another region ({short}): set AWS_REGION")
    return AmzrecError(f"{shown} could not be read ({short}): check the address, and {HOW[scheme]}")
