"""Downloads from a local server that works well, badly or not at all."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mnistcli.datasets import download
from mnistcli.datasets.download import RemoteFile, download_file
from mnistcli.errors import DataError, ResourceError

CONTENTS = bytes(range(256)) * 4000
SIZE = len(CONTENTS)
HALF = SIZE // 2


class Server(ThreadingHTTPServer):
    """Serves CONTENTS; the first part of a path says in which manner.

    Attributes:
        requests: path and Range header of each request, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Range"]))
        getattr(self, f"serve_{self.path[1:]}")()

    def log_message(self, *_: object) -> None:
        """Tests read `requests` instead."""

    def serve_ranges(self, limit: int = SIZE) -> None:
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= SIZE:
            self.send_error(416)
        elif start:
            self.send(206, CONTENTS[start:], limit, f"bytes {start}-{SIZE - 1}/{SIZE}")
        else:
            self.send(200, CONTENTS, limit)

    def serve_no_ranges(self) -> None:
        self.send(200, CONTENTS)

    def serve_in_pieces(self) -> None:
        """Breaks off after a third, each time."""
        self.serve_ranges(limit=SIZE // 3 + 1)

    def serve_half(self) -> None:
        """Breaks off in the middle, and knows no ranges."""
        self.send(200, CONTENTS, HALF)

    def serve_nothing(self) -> None:
        """Promises everything and hangs up."""
        self.serve_ranges(limit=0)

    def serve_slowly(self) -> None:
        self.send_response(200)
        self.end_headers()
        for start in range(0, SIZE, HALF):
            self.wfile.write(CONTENTS[start : start + HALF])
            self.wfile.flush()
            time.sleep(0.3)

    def serve_a_byte_now_and_then(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.drip(CONTENTS)

    def serve_headers_now_and_then(self) -> None:
        self.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 90)

    def drip(self, contents: bytes) -> None:
        try:
            for byte in contents:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            self.close_connection = True

    def serve_other_range(self) -> None:
        self.send(206, CONTENTS[1:], SIZE, f"bytes 1-{SIZE - 1}/{SIZE}")

    def serve_wrong(self) -> None:
        self.send(200, b"<html>Please log in</html>")

    def serve_missing(self) -> None:
        self.send_error(404)

    def serve_huge(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(10**12))
        self.end_headers()

    def serve_endless(self) -> None:
        """Says nothing of its length, and goes on as long as someone listens."""
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(CONTENTS)
        except OSError:
            self.close_connection = True

    def send(
        self, status: int, contents: bytes, limit: int = SIZE, content_range: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(contents)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(contents[:limit])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def remote(server: Server, *paths: str) -> RemoteFile:
    return RemoteFile(
        name="data.bin",
        urls=tuple(server.url(path) for path in paths),
        sha256=hashlib.sha256(CONTENTS).hexdigest(),
        max_bytes=SIZE + 1000,
    )


def ignore(name: str, received_bytes: int, total_bytes: int | None) -> None:
    """For tests that do not look at progress."""


def assert_downloaded(directory: Path) -> None:
    assert list(directory.iterdir()) == [directory / "data.bin"]
    assert (directory / "data.bin").read_bytes() == CONTENTS


def test_a_file_arrives_complete_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    progress: list[tuple[str, int, int | None]] = []
    directory = tmp_path / "made" / "for it"
    path = download_file(remote(server, "ranges"), directory, lambda *told: progress.append(told))
    assert path == directory / "data.bin"
    assert_downloaded(directory)
    assert progress[0] == ("data.bin", 0, SIZE)
    assert progress[-1] == ("data.bin", SIZE, SIZE)
    assert [told[1] for told in progress] == sorted(told[1] for told in progress)


def test_a_part_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENTS[:1000])
    progress: list[int] = []
    download_file(remote(server, "ranges"), tmp_path, lambda _, so_far, __: progress.append(so_far))
    assert server.requests == [("/ranges", "bytes=1000-")]
    assert progress[0] == 1000
    assert_downloaded(tmp_path)


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENTS[:1000])
    download_file(remote(server, "no_ranges"), tmp_path, ignore)
    assert len(server.requests) == 1
    assert_downloaded(tmp_path)


def test_a_part_that_is_complete_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENTS)
    download_file(remote(server, "ranges"), tmp_path, ignore)
    assert server.requests == [("/ranges", f"bytes={SIZE}-")]
    assert_downloaded(tmp_path)


@pytest.mark.parametrize("stale", [b"other contents", bytes(SIZE), bytes(SIZE + 500)])
def test_a_part_of_something_else_is_thrown_away(
    server: Server, tmp_path: Path, stale: bytes
) -> None:
    (tmp_path / "data.bin.part").write_bytes(stale)
    download_file(remote(server, "ranges"), tmp_path, ignore)
    assert [asked for _, asked in server.requests] == [f"bytes={len(stale)}-", None]
    assert_downloaded(tmp_path)


def test_a_transfer_that_breaks_off_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    download_file(remote(server, "in_pieces"), tmp_path, ignore)
    third = SIZE // 3 + 1
    assert [asked for _, asked in server.requests] == [
        None,
        f"bytes={third}-",
        f"bytes={2 * third}-",
    ]
    assert_downloaded(tmp_path)


@pytest.mark.parametrize("first", ["missing", "wrong", "nothing", "huge", "endless"])
def test_the_second_mirror_helps_where_the_first_fails(
    server: Server, tmp_path: Path, first: str
) -> None:
    download_file(remote(server, first, "ranges"), tmp_path, ignore)
    assert_downloaded(tmp_path)


@pytest.mark.parametrize("manner", ["a_byte_now_and_then", "headers_now_and_then"])
def test_a_mirror_that_sends_next_to_nothing_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    monkeypatch.setattr(download, "_PATIENCE_S", 0.3)
    download_file(remote(server, manner, "ranges"), tmp_path, ignore)
    assert_downloaded(tmp_path)
    assert [path for path, _ in server.requests] == [f"/{manner}", "/ranges"]
    with pytest.raises(DataError, match=r"is too slow: \d+ bytes in 0 s"):
        download_file(remote(server, manner), tmp_path / "alone", ignore)


def test_one_mirror_goes_on_where_another_broke_off(server: Server, tmp_path: Path) -> None:
    download_file(remote(server, "half", "ranges"), tmp_path, ignore)
    assert server.requests[-1] == ("/ranges", f"bytes={HALF}-")
    assert_downloaded(tmp_path)


FAILURES: dict[str, tuple[str, list[str]]] = {
    "missing": ("HTTP 404 Not Found", []),
    "wrong": ("sent contents with another sha256 than the published one", []),
    "huge": (f"sends more than the {SIZE + 1000} bytes allowed", []),
    "nothing": (f"broke off after 0 of {SIZE} bytes", []),
    "half": (f"broke off after {HALF} of {SIZE} bytes", ["data.bin.part"]),
}


@pytest.mark.parametrize("manner", FAILURES)
def test_what_no_mirror_can_give_is_an_error_that_names_them(
    server: Server, tmp_path: Path, manner: str
) -> None:
    reason, left = FAILURES[manner]
    with pytest.raises(DataError) as caught:
        download_file(remote(server, manner, manner), tmp_path, ignore, "use --dataset auto")
    host = f"127.0.0.1:{server.server_port}"
    assert caught.value.where == "data.bin"
    assert caught.value.what == f"not in {tmp_path}, and cannot be downloaded from {host}: {reason}"
    assert caught.value.hint.startswith("check the network and try again")
    assert ("what has arrived is kept" in caught.value.hint) == bool(left)
    assert caught.value.hint.endswith(" with --data-dir, or use --dataset auto")
    assert [path.name for path in tmp_path.iterdir()] == left


def test_mirrors_that_fail_in_different_ways_are_told_apart(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        download_file(remote(server, "missing", "nothing"), tmp_path, ignore)
    host = f"127.0.0.1:{server.server_port}"
    assert caught.value.what == (
        f"not in {tmp_path}, and cannot be downloaded: {host}: HTTP 404 Not Found;"
        f" {host}: broke off after 0 of {SIZE} bytes"
    )


def test_a_range_that_nobody_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENTS[:1000])
    with pytest.raises(DataError, match="sent another range than the one asked for"):
        download_file(remote(server, "other_range"), tmp_path, ignore)
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENTS[:1000]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Server() as closed:
        address = closed.url("ranges")
    unreachable = RemoteFile("data.bin", (address,), "0" * 64, 1000)
    with pytest.raises(DataError, match=r"127\.0\.0\.1:\d+: .*[Rr]efused"):
        download_file(unreachable, tmp_path, ignore)


def test_two_downloads_at_once_fetch_once_and_both_have_the_file(
    server: Server, tmp_path: Path
) -> None:
    waited: list[int] = []

    def download(on_download: Callable[[str, int, int | None], None]) -> Path:
        return download_file(remote(server, "slowly"), tmp_path, on_download)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(download, ignore)
        while not (tmp_path / "data.bin.part").exists():
            time.sleep(0.01)
        second = pool.submit(download, lambda _, so_far, __: waited.append(so_far))
        assert first.result() == second.result() == tmp_path / "data.bin"
    assert len(server.requests) == 1
    assert waited
    assert_downloaded(tmp_path)


def test_an_interrupt_keeps_what_has_arrived(server: Server, tmp_path: Path) -> None:
    def interrupt(name: str, received_bytes: int, total_bytes: int | None) -> None:
        if received_bytes > HALF:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_file(remote(server, "ranges"), tmp_path, interrupt)
    arrived = (tmp_path / "data.bin.part").read_bytes()
    assert len(arrived) > HALF
    assert CONTENTS.startswith(arrived)
    download_file(remote(server, "ranges"), tmp_path, ignore)
    assert_downloaded(tmp_path)


def test_a_folder_that_cannot_be_made_is_the_environments_fault(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError) as caught:
        download_file(remote(server, "ranges"), tmp_path / "file" / "folder", ignore)
    assert caught.value.where == str(tmp_path / "file" / "folder")
    assert caught.value.what == "cannot be written: Not a directory"
    assert server.requests == []
