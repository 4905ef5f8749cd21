"""Servers that share a port share its connections, and none is lost where there is no room for one more for a while."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest
import uvicorn

from amzrec.service import sharing
from amzrec.service.sharing import SharingServer

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Listener(socket.socket):
    """A listening socket on which some connections cannot be taken at first."""

    fails = 0

    def accept(self) -> Any:
        if self.fails:
            self.fails -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def asked(servers: int, connections: int, fails: int = 0) -> tuple[list[int], list[bytes]]:
    """How many connections each of some servers took, and what was answered to one request on each."""
    listener, counts = Listener(), [0] * servers
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    address, ends = listener.getsockname(), [listener.dup() for _ in range(servers)]  # as each process has its own
    ends[0].fails = fails
    listener.close()

    def app_of(number: int) -> Any:
        async def app(scope: Any, _: Any, send: Any) -> None:
            assert scope["type"] == "http"
            counts[number] += 1
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

        return app

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(ASK)
        answer = await reader.read()
        writer.close()
        return answer

    made = [
        SharingServer(uvicorn.Config(app_of(n), log_config=None, lifespan="off", ws="none")) for n in range(servers)
    ]
    for server, end in zip(made, ends, strict=True):
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([end])
    answers = await asyncio.gather(*(ask() for _ in range(connections)))
    for server, end in zip(made, ends, strict=True):
        await server.shutdown([end])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    return counts, answers


def test_connections_that_come_together_are_shared() -> None:
    counts, answers = asyncio.run(asked(2, 40))
    assert sum(counts) == 40
    assert min(counts) >= 10
    assert all(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"ok") for answer in answers)


def test_a_connection_for_which_there_is_no_room_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "PAUSE", 0.01)
    counts, answers = asyncio.run(asked(1, 3, fails=2))
    assert (counts, len(answers)) == ([3], 3)
    assert caplog.text.count("Too many open files") == 2
