"""Members of a .tar.gz, read in one pass without extracting anything to disk."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from collections.abc import Collection, Generator
from pathlib import Path, PurePosixPath

from mnistcli.datasets.reading import check_file_size, damaged, reporting_damage

_MAX_INFLATED_BYTES = 256 * 2**20
_BUFFER_BYTES = 2**20

# What tarfile, gzip and zlib raise on broken bytes; RecursionError: headers of headers of headers.
_TAR_DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError, ValueError,
    IndexError, OverflowError, RecursionError,
)  # fmt: skip


class _BoundedGzip(gzip.GzipFile):
    """Gives up before a small archive has become a large one.

    tarfile itself reads headers of whatever length they claim.
    """

    _left = _MAX_INFLATED_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """Like the base class', until the limit is passed."""
        contents = super().read(size)
        self._left -= len(contents)
        if self._left < 0:
            raise tarfile.ReadError(f"it inflates to more than {_MAX_INFLATED_BYTES} bytes")
        return contents


def read_members(
    path: Path, folder: str, names: Collection[str], max_bytes: int
) -> Generator[tuple[str, bytes]]:
    """Yield the wanted files in the order of the archive.

    After the last one it reads on to the archive's end, where gzip's checksum is, unless the
    caller has stopped asking.

    Args:
        path: the archive.
        folder: the folder within it that holds the files.
        names: of the files wanted.
        max_bytes: what each may have.

    Yields:
        Name and contents.

    Raises:
        DataError: a file is missing or too large; the archive is damaged, no .tar.gz, or not
            readable.
    """
    wanted = {(folder, name) for name in names}
    check_file_size(path)
    with (
        reporting_damage(path, *_TAR_DAMAGE),
        _BoundedGzip(path) as inflated,
        tarfile.open(fileobj=inflated, mode="r|", bufsize=_BUFFER_BYTES) as archive,
    ):
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if parts not in wanted or not member.isreg():
                continue
            if member.size > max_bytes:
                raise damaged(path, f"{member.name} has {member.size} bytes, {max_bytes} allowed")
            file = archive.extractfile(member)
            if file is None:
                continue
            contents = file.read()
            wanted.remove(parts)
            yield parts[-1], contents
    if wanted:
        raise damaged(path, f"holds no {'/'.join(min(wanted))}")
