"""Real servers on the loopback for the tests: PostgreSQL, MariaDB, MLflow, S3 by moto, the web by Python."""

from __future__ import annotations

import contextlib
import functools
import glob
import logging
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

PASSWORD = "se cret#1@x"


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def server_user() -> list[str]:
    """Return what to put before a command so that it does not run as root, which PostgreSQL refuses."""
    if os.getuid():
        return []
    names = {user.pw_name for user in pwd.getpwall()}
    return ["setpriv", f"--reuid={next(n for n in ('postgres', 'nobody') if n in names)}", "--clear-groups"]


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL server with a user amz, and give its address; skips where there is none to start."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb") or ""]
    if not found[-1]:
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    programs, port = Path(found[-1]).parent, free_port()
    folder = Path(tempfile.mkdtemp(prefix="amzrec-postgresql-"))
    password = folder / "password"
    password.write_text(PASSWORD)
    if server_user():
        user = pwd.getpwnam(server_user()[1].partition("=")[2])
        for path in (folder, password):
            os.chown(path, user.pw_uid, user.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [*server_user(), str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder)

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    try:
        run("initdb", "-U", "amz", "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql://amz:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def mariadb() -> Iterator[str]:
    """Start a MariaDB server with a user amz and an empty database shop, and give its address; skips without one."""
    program, install = (shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("mariadbd", "mariadb-install-db"))
    if not program or not install:
        pytest.skip("there is no MariaDB server here: apt-get install mariadb-server")
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="amzrec-mariadb-"))
    user = pwd.getpwuid(os.getuid()).pw_name
    shared = [f"--datadir={folder / 'data'}", f"--user={user}"]
    quick = [install, "--no-defaults", *shared, "--auth-root-authentication-method=normal", "--skip-test-db"]
    socket_file = folder / "socket"
    options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={socket_file}", "--skip-log-bin"]
    try:
        subprocess.run(quick, check=True, capture_output=True, timeout=120, cwd=folder)
        with (folder / "log").open("w") as log:
            server = subprocess.Popen([program, "--no-defaults", *shared, *options], stdout=log, stderr=log)
        try:
            import pymysql

            statements = (
                "CREATE DATABASE shop",
                f"CREATE USER amz@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
                "GRANT ALL ON *.* TO amz@'127.0.0.1' WITH GRANT OPTION",
            )
            deadline = time.monotonic() + 60
            while True:
                try:
                    with pymysql.connect(user="root", unix_socket=str(socket_file)) as connection:
                        for statement in statements:
                            connection.cursor().execute(statement)
                    break
                except pymysql.OperationalError:  # it is starting
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise
                    time.sleep(0.1)
            yield f"mysql://amz:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/shop"
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """Start MLflow's tracking server, which keeps all in a folder, and give its address.

    It is MLflow's own application under the server of Flask: `mlflow server` wants packages that mlflow-skinny lacks.
    """
    port = free_port()
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "flask", "--app", "mlflow.server:app", "run", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=os.environ | settings)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=5):
                    break
            except OSError:  # it is starting
                if time.monotonic() > deadline or server.poll() is not None:
                    raise AssertionError((folder / "log").read_text()) from None
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """Start moto's S3 with an empty bucket `shop`, set the usual variables, and give its endpoint."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    try:
        bucket_of(endpoint).create_dir("shop")
        yield endpoint
    finally:
        server.stop()


@contextlib.contextmanager
def google() -> Iterator[str]:
    """Start an emulator of Google's store with an empty bucket `shop`, and give its endpoint."""
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="shop")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def bucket_of(endpoint: str) -> Any:
    """Return a file system to put files into the buckets of `s3`."""
    from pyarrow import fs

    return fs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        region="us-east-1",
        endpoint_override=endpoint.partition("://")[2],
        scheme="http",
        allow_bucket_creation=True,
    )


@contextlib.contextmanager
def serving(handler: type[SimpleHTTPRequestHandler], folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback, and give the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
