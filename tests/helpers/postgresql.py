"""A PostgreSQL server for tests; test files name it in `pytest_plugins`."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _postgresql_server() -> Iterator[str]:
    """Start a server on a free port; it does not run as root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin")
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if user and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    with (
        tempfile.TemporaryDirectory(prefix="mnistcli-postgresql-") as name,
        socket.socket() as free,
    ):
        if user:
            shutil.chown(name, "postgres")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        options = f"-p {port} -k {name} -c listen_addresses=127.0.0.1 -c fsync=off"
        data = ["-D", f"{name}/data"]
        call = functools.partial(
            subprocess.run, cwd=name, stdout=subprocess.DEVNULL, check=True, timeout=60
        )
        made = [*user, f"{binaries[-1]}/initdb", *data, "-U", "me", "--auth=trust", "--no-sync"]
        call(made)
        control = [*user, f"{binaries[-1]}/pg_ctl", *data, "-l", f"{name}/log", "-w"]
        call([*control, "-o", options, "start"])
        try:
            yield f"postgresql://me@127.0.0.1:{port}/"
        finally:
            call([*control, "-m", "immediate", "stop"])


@pytest.fixture
def postgresql(_postgresql_server: str, request: pytest.FixtureRequest) -> str:
    """Create an empty database and return its URL."""
    import psycopg

    name = f"t{zlib.crc32(request.node.nodeid.encode())}"
    with psycopg.connect(f"{_postgresql_server}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{_postgresql_server}{name}"
