"""``publish``, ``tail``, ``get``, ``trace`` and ``prune``."""

import json
import re
from typing import Any

import pytest

Shop = Any  # The fixture of conftest.py, which test modules do not import.


# Publish.


def test_publishing_prints_the_id(shop: Shop) -> None:
    """On stdout alone, for scripts."""
    answer = shop("publish", "shop:bus", "order.placed", '{"order_id": "o1"}')
    assert answer.code == 0
    assert re.fullmatch(r"[0-9a-f-]{36}\n", answer.out)
    assert answer.err == ""
    assert shop.ok("get", "shop.db", answer.out.strip(), "--json").json["data"]["order_id"] == "o1"


def test_a_program_gives_the_key_and_checks_the_data(shop: Shop) -> None:
    """MODULE:BUS knows the class: its key, its fields, their types."""
    shop.place("o1")
    assert shop.ok("get", "shop.db", "1", "--json").json["key"] == "o1"
    refused = shop("publish", "shop:bus", "order.placed", '{"item": "Book"}')
    assert refused.code == 1
    assert "order_id" in refused.err
    assert "Traceback" not in refused.err


def test_every_option_of_publish_arrives(shop: Shop) -> None:
    """Key, headers and id, on a bare log."""
    shop.ok("publish", "shop.db", "a.b", "[1]", "--key", "k", "--header", "x=1", "--header", "y=2",
            "--id", "mine")  # fmt: skip
    event = shop.ok("get", "shop.db", "mine", "--json").json
    assert (event["key"], event["headers"], event["data"]) == ("k", {"x": "1", "y": "2"}, [1])


def test_an_id_is_stored_once(shop: Shop) -> None:
    """To publish again with the same id is safe."""
    for _ in range(2):
        shop.ok("publish", "shop.db", "a", "--id", "mine")
    assert len(shop.ok("tail", "shop.db", "--no-follow", "--json").out.splitlines()) == 1


def test_a_delayed_event_is_found_before_it_is_due(shop: Shop) -> None:
    """It has no position yet, and says when it is due."""
    shop.ok("publish", "shop.db", "a", "--id", "late", "--delay", "2h")
    event = shop.ok("get", "shop.db", "late", "--json").json
    assert event["position"] is None
    assert event["due"] > event["time"]
    assert "none yet: due" in shop.ok("get", "shop.db", "late").out


def test_data_comes_from_stdin_or_a_file(shop: Shop) -> None:
    """``-`` and ``@FILE``."""
    assert shop("publish", "shop.db", "a", "-", stdin='{"n": 1}').code == 0
    (shop.folder / "data.json").write_text('{"n": 2}', encoding="utf-8")
    shop.ok("publish", "shop.db", "a", "@data.json")
    rows = shop.ok("tail", "shop.db", "--no-follow", "--json").out.splitlines()
    assert [json.loads(row)["data"]["n"] for row in rows] == [1, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("publish", "shop.db", "a", "{bad"), "no JSON"),
        (("publish", "shop.db", "a", "@none.json"), "cannot be read"),
        (("publish", "shop.db", "a b"), "white space"),
        (("publish", "shop.db", "a", "--delay", "soon"), "--delay"),
        (("publish", "shop.db", "a", "--header", "x"), "NAME=VALUE"),
        (("tail", "shop.db", "--since", "soon"), "--since"),
        (("tail", "shop.db", "--where", "quantity"), "FIELD=VALUE"),
        (("prune", "shop.db"), "--older-than"),
    ],
)
def test_a_wrong_call_is_told_in_two_lines(shop: Shop, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, nothing on stdout, no traceback."""
    answer = shop(*words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) <= 2


# Tail.


def names(answer: Any) -> list[str]:
    """The names of the events that `tail` printed."""
    return [line.split("\t")[3] for line in answer.out.splitlines()]


def test_tail_shows_whole_events_to_a_pipe(busy: Shop) -> None:
    """Position, time, id, name, key and data, between tabs; nothing is cut off."""
    line = busy.ok("tail", "shop.db", "--no-follow", "--since", "beginning").out.splitlines()[0]
    position, time, id_, name, key, data = line.split("\t")
    assert (position, name, key) == ("1", "order.placed", "o1")
    assert json.loads(data)["quantity"] == 5
    assert time.endswith("Z")
    assert len(id_) == 36


def test_tail_filters_by_name_key_and_field(busy: Shop) -> None:
    """Patterns, keys, and conditions on the data, all of which must hold."""

    def tail(*words: str) -> list[str]:
        return names(busy.ok("tail", "shop.db", "--no-follow", *words))

    assert tail("--name", "order.**") == ["order.placed"] * 3
    assert tail("--name", "StockLow") == ["StockLow"] * 2
    assert tail("--key", "o2") == ["order.placed"]
    assert tail("--where", "quantity>3") == ["order.placed"] * 2
    assert tail("--where", "quantity>3", "--where", "item=Rare") == ["order.placed"]
    assert tail("--where", "item~RAR", "--name", "order.placed") == ["order.placed"]
    assert tail("--where", "item!=Rare", "--where", "item!=Book") == ["order.placed"]
    assert tail("--where", "nothing=1") == []


def test_tail_begins_where_it_is_told(busy: Shop) -> None:
    """After a position, a while ago, at a time, or so many events before the end."""

    def tail(*words: str) -> int:
        return len(names(busy.ok("tail", "shop.db", "--no-follow", *words)))

    assert tail("--since", "3") == 2
    assert tail("--since", "1h") == 5
    assert tail("--since", "2099-01-01T00:00") == 0
    assert tail("--last", "1") == 1


def test_tail_follows(shop: Shop) -> None:
    """What is published later is shown as well, at once."""
    running = shop.start("tail", "shop.db", "--json")
    try:
        shop.place("o1")
        assert json.loads(running.process.stdout.readline())["key"] == "o1"
        shop.place("o2")
        assert json.loads(running.process.stdout.readline())["key"] == "o2"
    finally:
        running.kill()


# Get and trace.


def test_get_tells_what_became_of_an_event(busy: Shop) -> None:
    """With every subscription that wants it."""
    text = busy.ok("get", "shop.db", "2").out
    assert "shop:shop.bill  dead letter 1, 1 attempt: ValueError: no price for Bad" in text
    assert "shop:shop.update  settled" in text
    assert "purchase" not in text


def test_what_is_not_there_is_a_failure(shop: Shop) -> None:
    """Exit code 1, and what to do."""
    for command in ("get", "trace"):
        answer = shop(command, "shop.db", "99")
        assert answer.code == 1
        assert "no event '99'" in answer.err
        assert "tail" in answer.err


def test_trace_draws_the_tree_of_causes(busy: Shop) -> None:
    """Each effect stands below the handler that published it, whichever event is named."""
    story = busy.ok("trace", "shop.db", "3").out.splitlines()
    assert story[0].startswith("order.placed o3  3  ")
    assert story[1:3] == ["├── shop:shop.bill  settled", "└── shop:shop.update  settled"]
    assert re.fullmatch(r"    └── StockLow Rare  \d  \+\d.*", story[3])
    assert "shop:purchase  dead letter" in story[4]
    assert "ConnectionError: the supplier does not answer" in story[4]
    events = busy.ok("tail", "shop.db", "--no-follow", "--json").out.splitlines()
    effect = next(e for e in map(json.loads, events) if e["key"] == "Rare")
    same = busy.ok("trace", "shop.db", effect["id"]).out.splitlines()
    assert "<- asked for" in same[3]
    assert same[0] == story[0]


def test_trace_as_json_nests_effects_below_their_handlers(busy: Shop) -> None:
    """The same tree for programs."""
    (root,) = busy.ok("trace", "shop.db", "1", "--json").json["events"]
    update = next(s for s in root["handled"] if s["subscription"] == "shop:shop.update")
    assert update["state"] == "settled"
    (effect,) = update["published"]
    assert effect["name"] == "StockLow"
    assert effect["causation_id"] == root["id"]
    assert [s["state"] for s in effect["handled"]] == ["settled"]


def test_an_event_nobody_took_up_yet_waits(shop: Shop) -> None:
    """And one of a paused subscription says so."""
    shop.place("o1")
    shop.ok("consumers", "pause", "shop.db", "shop:shop.bill")
    states = {s["subscription"]: s["state"] for s in
              shop.ok("get", "shop.db", "1", "--json").json["handled"]}  # fmt: skip
    assert states == {"shop:shop.bill": "paused", "shop:shop.update": "waiting"}


def test_what_lies_before_a_place_was_never_handled(busy: Shop) -> None:
    """A subscription that began later does not claim to have handled what came before."""
    text = (busy.folder / "shop.py").read_text(encoding="utf-8")
    more = '\n\n@bus.on("**", name="audit")\ndef audit(event: object) -> None: ...\n'
    (busy.folder / "later.py").write_text(text + more, encoding="utf-8")
    busy.ok("ensure", "later:bus")
    assert "shop:audit  before its place: never handled" in busy.ok("get", "shop.db", "1").out


# Prune.


def test_prune_keeps_what_is_not_settled(busy: Shop) -> None:
    """Old or not: an event that somebody has still to handle stays."""
    waiting = busy.place("o9")
    busy.ok("prune", "shop.db", "--older-than", "0s")
    assert busy("get", "shop.db", waiting).code == 0
    busy.work()
    assert busy.ok("prune", "shop.db", "--older-than", "0s", "--force", "--yes").code == 0
    assert busy.ok("tail", "shop.db", "--no-follow", "--since", "beginning").out == ""


def test_forcing_needs_a_yes(busy: Shop) -> None:
    """Without a terminal there is nobody to ask."""
    answer = busy("prune", "shop.db", "--older-than", "0s", "--force")
    assert answer.code == 2
    assert "--yes" in answer.err
