"""Files on web servers: what the server says of them, and their bytes, going on where a connection broke."""

from __future__ import annotations

import base64
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from amzrec import __version__
from amzrec.errors import AmzrecError
from amzrec.reviews.sources.address import Address
from amzrec.reviews.sources.stores import BLOCK, Item

TIMEOUT = 30.0  # seconds without a byte until a server is given up
TRIES = 4  # of one download, each going on where the last one broke


class Web:
    """One file on a web server."""

    def __init__(self, address: Address) -> None:
        self.address, self.shown = address, address.shown

    def items(self) -> list[Item]:
        """Ask for the file's name, size and mark; the mark is None where the server does not say what changed."""
        try:
            with self.answer("HEAD") as found:
                return [described(found)]
        except AmzrecError as error:
            if not isinstance(error.__cause__, urllib.error.HTTPError) or error.__cause__.code not in (403, 405, 501):
                raise
        with self.answer("GET") as found:  # a server, or a signature, that does not know HEAD
            return [described(found)]

    def fetch(self, item: Item, target: BinaryIO, tell: Callable[[int], None]) -> None:
        """Write the bytes of the file; AmzrecError where they stay fewer than the server announced."""
        done, total = 0, item.size
        for _ in range(TRIES):
            asked = {"Range": f"bytes={done}-", "If-Range": item.etag} if done and item.etag else {}
            with self.answer("GET", asked) as found:
                if found.status != http.client.PARTIAL_CONTENT:
                    tell(-done)
                    done = 0
                    total = size_of(found)
                target.seek(done)
                target.truncate()
                for block in blocks(found):
                    target.write(block)
                    done += len(block)
                    tell(len(block))
            if total is None or done >= total:
                return
        raise AmzrecError(
            f"{self.shown} broke off {TRIES} times, the last time after {done:,} of {total:,} bytes: try again "
            "later, or download it with another program and name the file"
        )

    @contextmanager
    def answer(self, method: str, headers: dict[str, str] | None = None) -> Iterator[Any]:
        """Open the address; AmzrecError for what the server, or the way to it, refuses."""
        url, login = request_of(self.address.url)
        request = urllib.request.Request(url, method=method, headers={**login, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as found:
                yield found
        except urllib.error.HTTPError as error:
            raise AmzrecError(f"{self.shown} answers {error.code} {error.reason}: {remedy(error.code)}") from error
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise AmzrecError(
                f"{urlsplit(self.shown).netloc or self.shown} cannot be reached ({self.address.hidden(str(reason))}): "
                "check the address, the network, and HTTPS_PROXY where there is one"
            ) from None


def request_of(url: str) -> tuple[str, dict[str, str]]:
    """Return an address without the user in it, its blanks written as %20, and the headers that log in."""
    parts = urlsplit(url)
    headers = {"User-Agent": f"amzrec/{__version__}"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
    host = parts.netloc.rpartition("@")[2]
    path, query = (quote(text, safe="/%:=&?~#+!$,;'@()*[]") for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, "")), headers


def blocks(found: Any) -> Iterator[bytes]:
    """Yield the bytes of an answer; a connection that breaks ends them."""
    while True:
        try:
            block = found.read(BLOCK)
        except http.client.IncompleteRead as error:
            yield error.partial
            return
        except OSError:
            return
        if not block:
            return
        yield block


def described(found: Any) -> Item:
    """Return what the headers of an answer say of a file."""
    given = re.search(r'filename="?([^";]+)', found.headers.get("Content-Disposition") or "")
    name = given[1] if given else unquote(urlsplit(found.url).path)
    etag = found.headers.get("ETag")
    mark = etag or found.headers.get("Last-Modified")
    return Item(PurePosixPath(name).name or "download", "", size_of(found), mark, etag)


def size_of(found: Any) -> int | None:
    """Return the size that an answer announces."""
    size = found.headers.get("Content-Length") or ""
    return int(size) if re.fullmatch("[0-9]{1,18}", size) else None


def remedy(code: int) -> str:
    """Say what to do about an answer that is none."""
    if code in (401, 403, 407):
        return "it wants a login, https://user:password@host/…, or a signed address that has not run out"
    if code in (404, 410):
        return "there is nothing under this address: check it"
    return "try again later" if code >= 500 or code == 429 else "check the address"
