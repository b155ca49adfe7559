"""The rows of an *Online Retail* file, plain or gzip, one at a time.

A file is judged by what is in it. A byte order mark is skipped, gzip is found by its first bytes,
and everything that keeps the whole file from being read is one `BadFile` with one line of text.
"""

import codecs
import csv
import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from .orders import COLUMNS, Row, shown

_GZIP = b"\x1f\x8b"
_LONGEST_HEADER = 4096  # bytes; a file without line breaks must not be read whole to refuse it
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins like UTF-16, so it is asked first
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class BadFile(Exception):
    """The file as a whole cannot be read; the text is one line that says why."""


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of `path` below its header.

    Raises:
        BadFile: missing, empty, no CSV, damaged gzip, not UTF-8, or another header.
    """
    with _opened(path) as stream:
        head = _header(path, stream.readline(_LONGEST_HEADER))
        reader = csv.reader(chain([head], _decoded(path, stream)))
        next(reader)
        while True:
            first = reader.line_num + 1
            try:
                columns = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # a field of more than 128 KiB; the next line is fine
                yield Row(first, reader.line_num, [], f"not CSV: {error}")
            else:
                yield Row(first, reader.line_num, columns)


def count_rows(path: Path) -> int:
    """Return how many rows `path` has, having read it to its end once.

    Raises:
        BadFile: as `read_rows`; what it says once it says before a single order is placed.
    """
    return sum(1 for _ in read_rows(path))


@contextmanager
def _opened(path: Path) -> Generator[BinaryIO, None, None]:
    try:
        with path.open("rb") as file:
            start = file.peek(len(_GZIP))[: len(_GZIP)]
            if start == _GZIP:
                with gzip.open(file) as unpacked:
                    yield cast("BinaryIO", unpacked)
            elif start and path.suffix.lower() == ".gz":
                raise BadFile(f"{path} is named .gz and is not gzip")
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFile(f"{path} is damaged gzip: {str(error).lower()}") from None
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _header(path: Path, line: bytes) -> str:
    if not line:
        raise BadFile(f"{path} is empty")
    for mark, encoding in _WIDE.items():
        if line.startswith(mark):
            raise BadFile(f"{path} is {encoding}, expected UTF-8")
    if b"\0" in line:
        raise BadFile(f"{path} is not CSV: it holds binary data")
    text = _decode(path, 1, line.removeprefix(codecs.BOM_UTF8))
    try:
        names = [name.strip().casefold() for row in csv.reader([text]) for name in row]
    except csv.Error:
        names = []
    if names != [name.casefold() for name in COLUMNS]:
        raise BadFile(
            f"{path} is not an Online Retail CSV: expected the header {','.join(COLUMNS)},"
            f" got {shown(text.strip(), 60)}"
        )
    return text


def _decoded(path: Path, stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, start=2):
        yield _decode(path, number, line)


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise BadFile(f"{path} is not UTF-8: byte 0x{byte:02x} in line {number}") from None
