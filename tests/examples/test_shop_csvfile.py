"""How the shop reads files: plain, gzip, and all that is neither."""

import gzip
import os
import threading
from pathlib import Path

import pytest

from shop.csvfile import BadFile, count_rows, read_rows
from shop.orders import COLUMNS, OrderReader

HEADER = ",".join(COLUMNS) + "\r\n"
LINE = "536365,85123A,WHITE LANTERN,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\r\n"
TEXT = HEADER + LINE + LINE


def write(folder: Path, content: str | bytes, name: str = "orders.csv") -> Path:
    """Write a file of orders."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "name"),
    [
        pytest.param(TEXT, "orders.csv", id="plain"),
        pytest.param(TEXT.replace("\r\n", "\n"), "orders.csv", id="unix line ends"),
        pytest.param(TEXT.rstrip(), "orders.csv", id="no line end at the end"),
        pytest.param("\ufeff" + TEXT, "orders.csv", id="byte order mark"),
        pytest.param(gzip.compress(TEXT.encode()), "orders.csv.gz", id="gzip"),
        pytest.param(gzip.compress(("\ufeff" + TEXT).encode()), "ORDERS.CSV.GZ", id="gzip, mark"),
        pytest.param(gzip.compress(TEXT.encode()), "orders.csv", id="gzip by its content"),
        pytest.param(
            gzip.compress(TEXT[:60].encode()) + gzip.compress(TEXT[60:].encode()),
            "orders.csv.gz",
            id="gzip in two parts",
        ),
        pytest.param(
            TEXT.replace("WHITE LANTERN", '"WHITE ""LANTERN"", 5 £"'), "o.csv", id="quoted"
        ),
        pytest.param(
            HEADER.replace(",", '","').replace("Inv", '"Inv', 1).replace("\r", '"\r') + LINE + LINE,
            "o.csv",
            id="quoted header",
        ),
        pytest.param(
            TEXT.replace("InvoiceNo", " invoiceno "), "o.csv", id="header in another case"
        ),
    ],
)
def test_a_file_is_read(tmp_path: Path, content: str | bytes, name: str) -> None:
    """Every form that the format may come in gives the same rows."""
    path = write(tmp_path, content, name)
    assert count_rows(path) == 2
    assert [(row.line, row.last_line) for row in read_rows(path)] == [(2, 2), (3, 3)]
    assert [order.units for order in OrderReader(read_rows(path))] == [12]


@pytest.mark.parametrize(
    ("content", "name", "complaint"),
    [
        pytest.param(b"", "o.csv", "is empty", id="empty"),
        pytest.param(b"", "o.csv.gz", "is empty", id="empty, named gz"),
        pytest.param(gzip.compress(b""), "o.csv.gz", "is empty", id="gzip of nothing"),
        pytest.param(TEXT, "o.csv.gz", "is named .gz and is not gzip", id="not gzip"),
        pytest.param(
            gzip.compress(TEXT.encode())[:-12], "o.csv.gz", "is damaged gzip", id="gzip cut off"
        ),
        pytest.param(
            gzip.compress(TEXT.encode())[:30] + b"\xff" * 90,
            "o.csv.gz",
            "is damaged gzip",
            id="gzip overwritten",
        ),
        pytest.param(
            gzip.compress(TEXT.encode())[:-8] + b"\0" * 8,
            "o.csv.gz",
            "is damaged gzip",
            id="gzip with a wrong checksum",
        ),
        pytest.param(
            (TEXT + LINE.replace("WHITE", "£5")).encode("latin-1"),
            "o.csv",
            "is not UTF-8: byte 0xa3 in line 4",
            id="latin-1",
        ),
        pytest.param(TEXT.encode("utf-16"), "o.csv", "is UTF-16", id="UTF-16"),
        pytest.param(TEXT.encode("utf-32"), "o.csv", "is UTF-32", id="UTF-32"),
        pytest.param(TEXT.encode("utf-16-le"), "o.csv", "holds binary data", id="UTF-16, no mark"),
        pytest.param(b"PK\x03\x04\x14\0\x06\0", "o.csv", "is not CSV", id="a workbook"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", "o.csv", "is not UTF-8: byte 0x89", id="a picture"),
        pytest.param("{}\n", "o.csv", "is not an Online Retail CSV", id="JSON"),
        pytest.param("\n\n", "o.csv", "is not an Online Retail CSV", id="blank lines"),
        pytest.param(LINE, "o.csv", "is not an Online Retail CSV", id="no header"),
        pytest.param(
            TEXT.replace(",", ";"), "o.csv", "is not an Online Retail CSV", id="semicolons"
        ),
        pytest.param("x" * 1_000_000, "o.csv", "is not an Online Retail CSV", id="one long line"),
        pytest.param(
            '"InvoiceNo\n' + TEXT, "o.csv", "is not an Online Retail CSV", id="open quote"
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_line(
    tmp_path: Path, content: str | bytes, name: str, complaint: str
) -> None:
    """What is wrong with the file as a whole is one error, with its name and one line of text."""
    path = write(tmp_path, content, name)
    with pytest.raises(BadFile) as refusal:
        count_rows(path)
    text = str(refusal.value)
    assert text.startswith(f"{path} ")
    assert complaint in text
    assert "\n" not in text


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """The system's own words, in one line."""
    with pytest.raises(BadFile, match="no such file or directory"):
        count_rows(tmp_path / "missing.csv")
    with pytest.raises(BadFile, match="is a directory"):
        count_rows(tmp_path)


def test_a_quote_left_open_is_pointed_at(tmp_path: Path) -> None:
    """The rows that it swallows are one row; the rejection says where it begins and ends."""
    path = write(tmp_path, TEXT + LINE.replace("WHITE", '"WHITE') + LINE * 3)
    reader = OrderReader(read_rows(path))
    assert [order.units for order in reader] == [12]
    (rejection,) = reader.rejections
    assert rejection.line == 4
    assert "the row runs to line 7" in rejection.reason


def test_a_line_break_inside_quotes_belongs_to_the_description(tmp_path: Path) -> None:
    """Line numbers count lines of the file, not rows."""
    path = write(tmp_path, HEADER + LINE.replace("WHITE LANTERN", '"WHITE\nLANTERN"') + "bad\n")
    reader = OrderReader(read_rows(path))
    assert [order.lines[0].description for order in reader] == ["WHITE\nLANTERN"]
    assert [rejection.line for rejection in reader.rejections] == [4]


def test_a_field_that_is_too_long_costs_its_row_alone(tmp_path: Path) -> None:
    """The rows after it are read."""
    path = write(tmp_path, HEADER + LINE.replace("WHITE", "W" * 200_000) + LINE)
    reader = OrderReader(read_rows(path))
    assert [order.units for order in reader] == [6]
    (rejection,) = reader.rejections
    assert rejection.line == 2
    assert "not CSV: field larger than field limit" in rejection.reason


def test_a_blank_line_is_a_rejected_row(tmp_path: Path) -> None:
    """It is counted like any other, so that every line is accounted for."""
    reader = OrderReader(read_rows(write(tmp_path, TEXT + "\r\n" + LINE)))
    list(reader)
    assert (reader.lines, reader.rejections) == (4, [(4, "blank line")])


def test_a_header_alone_is_a_day_without_orders(tmp_path: Path) -> None:
    """Nothing to read, and nothing wrong with it."""
    assert count_rows(write(tmp_path, HEADER)) == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """Rows may come from another program, packed or not."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    packed = gzip.compress(TEXT.encode())
    writer = threading.Thread(target=path.write_bytes, args=(packed,))
    writer.start()
    assert len(list(read_rows(path))) == 2
    writer.join()
