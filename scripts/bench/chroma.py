"""A peer of the service: Chroma, a server of vectors (HNSW, in Rust), with the candidates of the same run."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.arrays import Floats
from amzrec.store.vectors import Vectors
from served import Service

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
AT_ONCE, ANSWERS, SEEN = 2_000, 10, 3  # products in a request that adds; wanted; hidden from each customer by amzrec


@contextlib.contextmanager
def chroma(
    program: Path, vectors: Vectors, folder: Path, settings: dict[str, int] | None = None, port: int = 8799
) -> Iterator[tuple[Service, str, float]]:
    """Start Chroma with every candidate of a run in it: the process, the path that is asked, the seconds of loading.

    The distance is the inner product, and its `settings` of HNSW are its defaults (16 neighbours, 100 looked at). It
    knows no customers: who asks sends the vector, and asks for as many products more as amzrec would hide.
    """
    index = {"hnsw": {"space": "ip"} | (settings or {})}
    address, log = f"http://127.0.0.1:{port}", folder / "chroma.log"
    store = tempfile.mkdtemp(dir=folder)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [program, "run", "--path", store, "--port", str(port)], stdout=errors, stderr=errors, cwd=folder
        )
    try:
        begun = time.perf_counter()
        while True:
            with contextlib.suppress(OSError):
                found = post(address + COLLECTIONS, {"name": "products", "configuration": index})
                break
            if process.poll() is not None:
                raise SystemExit(f"Chroma did not start: {log.read_text(errors='replace')}")
            time.sleep(0.1)
        ready = time.perf_counter() - begun
        path = f"{COLLECTIONS}/{found['id']}"
        rows = np.asarray(vectors.candidates)
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            embeddings = np.asarray(vectors.retrieval_candidate[some], np.float64).round(6).tolist()
            post(f"{address}{path}/add", {"ids": [str(row) for row in some], "embeddings": embeddings})
        yield Service(process, address, ready, log), f"{path}/query", time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait()


def question(query: Floats, answers: int) -> dict[str, Any]:
    """What Chroma is asked, of a query vector [D + 1]."""
    embedding = np.asarray(query, np.float64).round(6).tolist()
    return {"query_embeddings": [embedding], "n_results": answers, "include": ["distances"]}


def post(address: str, document: dict[str, Any]) -> dict[str, Any]:
    """Send a document and read the answer."""
    request = urllib.request.Request(address, json.dumps(document).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{address}: {error.code} {error.read()[:300]!r}") from None
