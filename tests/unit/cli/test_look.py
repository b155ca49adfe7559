"""``topology``, ``guarantees``, ``doctor`` and ``bench``; and what every command has in common."""

import json
import sqlite3
from typing import Any
from xml.etree import ElementTree as ET

import pytest

Shop = Any  # The fixture of conftest.py.


@pytest.mark.parametrize(
    ("form", "has"),
    [
        ("text", "order.placed -> shop:shop.update"),
        ("mermaid", "flowchart LR"),
        ("dot", '"e order.placed" -> "h shop:shop.update";'),
        ("svg", "<svg xmlns="),
        ("json", '"handler": "shop:shop.update"'),
    ],
)
def test_topology_in_every_form(shop: Shop, form: str, has: str) -> None:
    """On stdout, and nothing is opened."""
    (shop.folder / "shop.db").unlink()
    text = shop.ok("topology", "shop:bus", "--as", form).out
    assert has in text
    assert not (shop.folder / "shop.db").exists()
    if form == "svg":
        ET.fromstring(text)  # noqa: S314  our own
    if form == "json":
        assert {r["event"] for r in json.loads(text)} == {"order.placed", "StockLow"}


def test_guarantees_of_a_log_and_of_a_program(shop: Shop) -> None:
    """Also of one that is not there yet, and of a direct bus; nothing is made."""
    assert "power cut" in shop.ok("guarantees", "shop:bus").out
    loss = shop.ok("guarantees", "sqlite:///none.db?synchronous=normal").out
    assert "a power cut may take back" in loss
    assert not (shop.folder / "none.db").exists()
    assert shop.ok("guarantees", "shop:bus", "--json").json["name"] == "SQLite"
    assert "keeping nothing" in shop.ok("guarantees", "shop:direct").out


# Doctor.


def findings(shop: Shop, *words: str) -> dict[str, str]:
    """What `doctor` found, by subject; the worst level of each."""
    answer = shop("doctor", *words, "--json")
    found: dict[str, str] = {}
    for finding in answer.json["findings"]:
        found[finding["subject"]] = finding["level"]
    assert answer.code == ("wrong" in found.values())
    return found


def test_doctor_finds_nothing_wrong_in_a_sound_log(busy: Shop) -> None:
    """Exit code 0; dead letters are noted."""
    found = findings(busy, "shop:bus")
    assert found["integrity"] == found["WAL"] == found["file system"] == found["code"] == "fine"
    assert found["shop:shop.bill"] == "note"
    text = busy.ok("doctor", "shop.db", "--quick")
    assert sqlite3.sqlite_version in text.out
    assert "Nothing is wrong." in text.err


def test_doctor_finds_damage(busy: Shop) -> None:
    """A page overwritten in the midst of the file: exit code 1, and what to do."""
    path = busy.folder / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'log'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 200)
    answer = busy("doctor", "shop.db")
    assert answer.code == 1
    assert "WRONG  integrity: damaged" in answer.out
    assert "fix: stop everything" in answer.out


def test_doctor_says_what_is_no_log(shop: Shop) -> None:
    """A file of another program, and a text."""
    connection = sqlite3.connect(shop.folder / "other.db")
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    assert findings(shop, "other.db")["log"] == "wrong"
    (shop.folder / "text.db").write_text("hello", encoding="utf-8")
    assert findings(shop, "text.db")["log"] == "wrong"


def test_doctor_finds_subscriptions_without_code(busy: Shop) -> None:
    """They keep their events for ever, until they are renamed or dropped."""
    connection = sqlite3.connect(busy.folder / "shop.db")
    connection.execute("INSERT INTO subscription VALUES('shop:gone', 'x', 0, 0)")
    connection.commit()
    connection.close()
    assert findings(busy, "shop:bus")["code"] == "wrong"
    assert "shop:gone" in busy("doctor", "shop:bus").out


def test_doctor_finds_events_that_nobody_moves(shop: Shop) -> None:
    """Delayed events whose time has come long ago."""
    shop.ok("publish", "shop.db", "a", "--id", "late", "--delay", "1h")
    connection = sqlite3.connect(shop.folder / "shop.db")
    connection.execute("UPDATE later SET due = due - 7200")
    connection.commit()
    connection.close()
    assert findings(shop, "shop.db")["delayed"] == "wrong"


# Bench.


def test_bench_measures_and_leaves_nothing(shop: Shop) -> None:
    """Four figures; a log that is there is not touched."""
    before = sorted(shop.folder.iterdir())
    answer = shop.ok("bench", "sqlite:///bench.db", "--seconds", "0.05", "--json")
    assert all(answer.json[name] > 0 for name in ("publish_one", "publish_many", "settle"))
    assert sorted(shop.folder.iterdir()) == before
    refused = shop("bench", "sqlite:///shop.db")
    assert refused.code == 2
    assert "is there already" in refused.err


# What every command has in common.


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("tail", "none.db"), 1, "no log at none.db"),
        (("get", "sqlite:///none.db", "1"), 1, "no log at none.db"),
        (("get", "none", "1"), 2, "MODULE:BUS"),
        (("run", "none:bus"), 2, "no module 'none'"),
        (("run", "shop:none"), 2, "its buses are: bus, direct"),
        (("run", "shop.py:bus"), 2, "shop:bus"),
        (("run", "shop:OrderPlaced"), 1, "order_id"),
        (("run", "shop:direct"), 2, "direct bus"),
        (("run", "broken:bus"), 1, "NameError: name 'nonsense' is not defined (broken.py:2)"),
        (("get", "carrier://x", "1"), 2, "no transport"),
        (("get", "memory://x", "1"), 1, "nothing to look at"),
        (("publish",), 2, "Missing argument"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_errors_are_two_lines(shop: Shop, words: tuple[str, ...], code: int, said: str) -> None:
    """What failed and what mends it, on stderr, and never a traceback."""
    (shop.folder / "broken.py").write_text("\nnonsense\n", encoding="utf-8")
    answer = shop(*words)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) <= 2
    assert answer.err.startswith("headwater: ")


def test_looking_makes_no_log(shop: Shop) -> None:
    """A mistyped path stays what it is: nothing."""
    for words in (("tail", "typo.db"), ("doctor", "typo.db"), ("publish", "typo.db", "a")):
        assert shop(*words).code == 1
    assert not list(shop.folder.glob("typo*"))


def test_every_command_has_help_and_json(shop: Shop) -> None:
    """--json everywhere, but where the output is a stream of log lines or pictures."""
    from headwater.cli.main import app

    names = [[c.callback.__name__] for c in app.registered_commands if c.callback]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            names.append([str(group.typer_instance.info.name), command.callback.__name__])
    assert len(names) > 20
    for name in names:
        text = shop.ok(*name, "--help").out
        assert name == ["run"] or "--json" in text, name


def test_a_reader_that_leaves_is_no_error(busy: Shop) -> None:
    """``| head`` ends a command quietly."""
    running = busy.start("tail", "shop.db", "--since", "beginning")
    running.process.stdout.readline()
    running.process.stdout.close()
    busy.place("o8")
    busy.place("o9")
    assert running.process.wait(timeout=20) == 141
    assert running.said() == ""
