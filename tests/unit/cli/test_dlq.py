"""``dlq``: list, group, show, retry, edit, discard."""

import stat
import sys
from typing import Any

import pytest

Shop = Any  # The fixture of conftest.py.


def letters(shop: Shop, *words: str) -> list[Any]:
    """The dead letters that `ls` finds."""
    found: list[Any] = shop.ok("dlq", "ls", "shop.db", "--json", *words).json
    return found


def test_ls_filters(busy: Shop) -> None:
    """By subscription, name, error, key, age and group."""
    assert len(letters(busy)) == 2
    for words in (
        ("--subscription", "shop:purchase"),
        ("--name", "StockLow"),
        ("--error", "ConnectionError"),
        ("--key", "Rare"),
        ("--group", letters(busy)[0]["group"]),
    ):
        assert [letter["name"] for letter in letters(busy, *words)] == ["StockLow"], words
    assert letters(busy, "--older-than", "1h") == []
    text = busy.ok("dlq", "ls", "shop.db").out
    assert "ValueError: no price for Bad" in text


def test_groups_put_together_what_failed_in_one_place(busy: Shop) -> None:
    """By subscription, error and the line of the application that raised it."""
    busy.place("o4", item="Bad")
    busy.work()
    groups = busy.ok("dlq", "groups", "shop.db", "--json").json
    assert [(group["letters"], group["kind"]) for group in groups] == [
        (2, "ValueError"), (1, "ConnectionError"),
    ]  # fmt: skip
    assert groups[0]["where"].startswith("shop.py:")
    assert groups[0]["where"].endswith("in bill")
    again = busy.ok("dlq", "retry", "shop.db", "--group", groups[0]["group"], "--json")
    assert again.json == {"retried": 2}


def test_show_tells_everything(busy: Shop) -> None:
    """The error, its traceback, the data."""
    text = busy.ok("dlq", "show", "shop.db", "1").out
    assert '"item": "Bad"' in text
    assert 'in bill\n    raise ValueError(f"no price for {order.item}")' in text
    answer = busy("dlq", "show", "shop.db", "99")
    assert answer.code == 1
    assert "no dead letter 99" in answer.err


def test_retry_lets_the_handler_have_it_again(busy: Shop) -> None:
    """It fails again, for nothing has changed, and is a dead letter anew."""
    assert "1 dead letter will be tried again" in busy.ok("dlq", "retry", "shop.db", "1").err
    assert len(letters(busy)) == 1
    busy.work()
    assert len(letters(busy)) == 2


def test_edit_gives_it_other_data(busy: Shop) -> None:
    """Then it succeeds."""
    busy.ok("dlq", "edit", "shop.db", "1", '{"order_id": "o2", "item": "Book"}')
    busy.work()
    assert [letter["name"] for letter in letters(busy)] == ["StockLow"]
    refused = busy("dlq", "edit", "shop.db", "2", "{bad")
    assert refused.code == 2
    assert len(letters(busy)) == 1


def test_edit_opens_the_editor(busy: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the data laid out; what is saved unchanged changes nothing."""
    script = busy.folder / "editor"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npath = pathlib.Path(sys.argv[1])\n"
        "path.write_text(path.read_text().replace('Bad', 'Good'))\n",
        encoding="utf-8",
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "true")
    assert "Nothing was changed" in busy.ok("dlq", "edit", "shop.db", "1").err
    assert len(letters(busy)) == 2
    monkeypatch.setenv("EDITOR", str(script))
    busy.ok("dlq", "edit", "shop.db", "1")
    busy.work()
    assert [letter["name"] for letter in letters(busy)] == ["StockLow"]


def test_discard_asks_and_forgets(busy: Shop) -> None:
    """Without a terminal it needs --yes."""
    refused = busy("dlq", "discard", "shop.db", "--all")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert len(letters(busy)) == 2
    assert busy.ok("dlq", "discard", "shop.db", "--all", "-y", "--json").json == {"discarded": 2}
    assert letters(busy) == []


def test_nothing_is_retried_without_saying_what(busy: Shop) -> None:
    """Numbers, a filter, or --all."""
    for command in ("retry", "discard"):
        answer = busy("dlq", command, "shop.db")
        assert answer.code == 2
        assert "--all" in answer.err


def test_a_number_that_is_not_there_is_a_failure(busy: Shop) -> None:
    """The others are retried all the same."""
    answer = busy("dlq", "retry", "shop.db", "1", "77")
    assert answer.code == 1
    assert len(letters(busy)) == 1
