"""Topology: who reacts to what, as data, text, Mermaid and a picture."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

import pytest

from headwater import Bus, Retry

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Placed:
    number: int = 0


@dataclass(frozen=True)
class Cancelled:
    number: int = 0


def reserve(event: object) -> None:
    """A handler."""


async def notify(event: object) -> None:
    """An async one."""


def shop() -> Bus:
    """A bus with three reactions."""
    bus = Bus()
    bus.on(Placed, Cancelled, name="stock.reserve")(reserve)
    bus.subscribe("**", notify, name="mail.notify", retry=Retry(), timeout=5)
    return bus


def picture(bus: Bus) -> ET.Element:
    """Its picture, read by an XML parser."""
    return parsed(bus.topology().svg())


def parsed(text: str) -> ET.Element:
    """What an XML parser makes of it."""
    return ET.fromstring(text)  # noqa: S314 -- it is our own


def texts(svg: ET.Element) -> list[str]:
    """What can be read in a picture."""
    return ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]


def test_reactions_are_data_in_order_of_registration() -> None:
    """One for each event and handler."""
    topology = shop().topology()
    assert [(one.event, one.handler, one.colour) for one in topology.reactions] == [
        ("Placed", "stock.reserve", "inline"),
        ("Cancelled", "stock.reserve", "inline"),
        ("**", "mail.notify", "async"),
    ]
    first, _, last = topology.reactions
    assert first.options == {"name": "stock.reserve"}
    assert last.options == {"name": "mail.notify", "retry": Retry(), "timeout": 5.0}
    assert first.how == "inline"
    assert last.how == "async, timeout, retry"
    assert first.where == f"{__file__}:{reserve.__code__.co_firstlineno}"


def test_text_names_each_event_once() -> None:
    """Sorted by event, its handlers below each other."""
    bus = shop()
    bus.subscribe(Placed, reserve, name="count")
    lines = str(bus.topology()).splitlines()
    assert lines == [
        "**        -> mail.notify (async, timeout, retry)",
        "Cancelled -> stock.reserve (inline)",
        "Placed    -> stock.reserve (inline)",
        "          -> count (inline)",
    ]
    assert repr(bus.topology()) == str(bus.topology())


def test_mermaid_draws_every_arrow() -> None:
    """A node for each event and each handler, an arrow for each reaction."""
    lines = shop().topology().mermaid().splitlines()
    assert lines[0] == "flowchart LR"
    nodes = {line.split("[")[0].strip(" ("): line for line in lines[1:] if "-->" not in line}
    arrows = [line.split(" --> ") for line in lines if "-->" in line]
    drawn = [(nodes[a.strip().split("(")[0]], nodes[b]) for a, b in arrows]
    assert [("Placed" in a, "stock.reserve" in b) for a, b in drawn[:1]] == [(True, True)]
    assert len(arrows) == 3
    assert len(nodes) == 5


def test_the_picture_is_well_formed() -> None:
    """Every name can be read in it, and there is an arrow for each reaction."""
    svg = picture(shop())
    assert svg.tag == f"{SVG}svg"
    read = texts(svg)
    for name in ("Placed", "Cancelled", "**", "stock.reserve", "mail.notify"):
        assert name in read
    arrows = [path for path in svg.iter(f"{SVG}path") if path.get("fill") == "none"]
    assert len(arrows) == 3


def test_nothing_in_the_picture_leaves_it() -> None:
    """Boxes stand inside the frame, however many there are and however long their names."""
    bus = Bus()
    for number in range(30):
        bus.on("a", "b" * 200, f"event.{number}", name=f"h{number}" * 20)(reserve)
    svg = picture(bus)
    width, height = (float(svg.get(side, "0")) for side in ("width", "height"))
    boxes = list(svg.iter(f"{SVG}rect"))
    assert len(boxes) == 62
    for box in boxes:
        x, y, w, h = (float(box.get(side, "nan")) for side in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height


NASTY = "<script>alert('x')</script>&\"quotes\""


def test_names_are_escaped() -> None:
    """Markup in a name is text in every output."""
    bus = Bus()
    bus.subscribe("<b>&'\"", reserve, name=NASTY)
    svg = picture(bus)
    assert list(svg.iter(f"{SVG}script")) == []
    assert NASTY in texts(svg)
    assert "<b>&'\"" in texts(svg)
    titles = ["".join(title.itertext()) for title in svg.iter(f"{SVG}title")]
    assert any(title.startswith(NASTY) for title in titles)
    page = bus.topology()._repr_html_()
    assert "<script>" not in page
    parsed(page)
    mermaid = bus.topology().mermaid()
    assert "<script>" not in mermaid
    assert [line.count('"') for line in mermaid.splitlines()] == [0, 2, 2, 0]


def test_a_bus_that_nobody_listens_to_says_so() -> None:
    """In words, in every output."""
    topology = Bus().topology()
    assert topology.reactions == ()
    assert str(topology) == "nobody reacts to anything yet"
    assert "nobody reacts to anything yet" in topology._repr_html_()
    assert topology.mermaid() == "flowchart LR"
    parsed(topology.svg())


def test_a_topology_is_a_moment() -> None:
    """What is closed later is still in it, and no longer in the next one."""
    bus = Bus()
    subscription = bus.subscribe(Placed, reserve)
    before = bus.topology()
    subscription.close()
    assert len(before.reactions) == 1
    assert bus.topology().reactions == ()


@pytest.mark.parametrize(
    ("options", "colour"),
    [({}, "inline"), ({"executor": "pump"}, "pump"), ({"concurrency": 2}, "thread")],
)
def test_a_reaction_says_how_it_runs(options: dict[str, Any], colour: str) -> None:
    """In the text and in the picture."""
    bus = Bus()
    bus.subscribe(Placed, reserve, **options)
    (reaction,) = bus.topology().reactions
    assert reaction.colour == colour
    assert f"({reaction.how})" in str(bus.topology())
    assert reaction.how in texts(picture(bus))


def test_words_of_double_width_have_room() -> None:
    """A name of Chinese letters makes its box twice as wide as one of Latin letters."""
    widths = list[float]()
    for name in ("a" * 20, "訂" * 20):
        bus = Bus()
        bus.subscribe(name, reserve, name="h")
        widths.append(float(next(picture(bus).iter(f"{SVG}rect")).get("width", "0")))
    assert widths[1] - widths[0] == 20 * 8
