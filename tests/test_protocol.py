"""What has no end is refused before it fills the memory, and what has one is let through, whatever its size."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from amzrec.service.protocol import LINE, bounded

pytest.importorskip("httptools")
MOST = 1000


class Transport(asyncio.Transport):
    """What the protocol writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answered(parts: list[bytes]) -> tuple[str, int]:
    """The status of the answer to what comes in these parts ("" for none yet), and how many were read until then."""
    from uvicorn.server import ServerState

    async def app(_: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    kind: Any = bounded(MOST)
    config = uvicorn.Config(app, log_config=None, ws="none", http=kind)
    protocol, transport = kind(config, ServerState(), {}, asyncio.get_running_loop()), Transport()
    protocol.connection_made(transport)
    read = 0
    for part in parts:
        protocol.data_received(part)
        read += 1
        for _ in range(3):
            await asyncio.sleep(0)
        if transport.closed:
            break
    protocol.connection_lost(None)
    return transport.written[9:12].decode(), read


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKS = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begin",
    [b"GET /?", GET, GET + b"X: ", CHUNKS + b"0\r\n", CHUNKS + b"1;"],
    ids=["address", "count", "value", "trailers", "extension"],
)
def test_what_does_not_end_is_refused(begin: bytes) -> None:
    part = b"x: " + b"y" * 95 + b"\r\n" if begin.endswith(b"\n") else b"y" * 100
    status, read = asyncio.run(answered([begin, *[part] * 1000]))
    assert status == "400"
    assert read <= MOST // 100 + 2


@pytest.mark.parametrize(
    "parts",
    [
        [GET + b"X: " + b"y" * 800 + b"\r\n\r\n"],
        [GET, *[b"X: " + b"y" * 75 + b"\r\n"] * 10, b"\r\n"],
        [CHUNKS, *[b"64\r\n" + b"y" * 100 + b"\r\n"] * 100, b"0\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n", *[b"y" * 500] * 100],
        [(GET + b"\r\n") * 3] * 100,
    ],
    ids=["value", "count", "chunks", "body", "many"],
)
def test_what_ends_is_answered(parts: list[bytes]) -> None:
    assert asyncio.run(answered(parts)) == ("200", len(parts))


def test_the_service_allows_as_much_as_clients_send() -> None:
    assert LINE >= 65_536
