"""Envelopes: packed and unpacked unchanged, and opened again as messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.envelope import Envelope, arrived, encode_headers, split_names
from headwater.policies.storm import Story

ANY_TEXT = st.text()
TIMES = st.floats(0, 1e11)
HEADERS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])),
                          st.text(st.characters(exclude_categories=["Cs"])))  # fmt: skip

envelopes = st.builds(
    Envelope,
    id=ANY_TEXT,
    topic=ANY_TEXT,
    key=st.none() | ANY_TEXT,
    names=ANY_TEXT,
    version=st.integers(1, 1 << 40),
    time=TIMES,
    correlation=st.none() | ANY_TEXT,
    causation=st.none() | ANY_TEXT,
    depth=st.integers(0, 1 << 40),
    headers=HEADERS.map(encode_headers),
    data=st.binary(),
)


@given(envelopes)
def test_what_is_packed_is_unpacked_unchanged(envelope: Envelope) -> None:
    """Any text, line ends included, and any bytes."""
    back = Envelope.unpack(envelope.pack())
    assert back == envelope
    assert isinstance(back, Envelope)


@given(HEADERS)
def test_headers_come_back_as_they_were(headers: dict[str, str]) -> None:
    """And none of them cost nothing."""
    encoded = encode_headers(headers)
    assert (encoded is None) == (not headers)
    if encoded is not None:
        assert json.loads(encoded) == headers


def test_a_message_that_arrives_has_everything_its_publisher_gave_it() -> None:
    """Names leaf to root, key, headers, time and its place in its story."""
    envelope = Envelope(
        "e2", "orders", "o1", "Placed Order", 3, 1234.5, "c0", "e1", 4, b'{"who": "me"}', b"{}"
    )
    message = arrived(envelope, {"a": 1}, lambda: 0.0, lambda correlation: Story())
    assert (message.id, message.name, message.names) == ("e2", "Placed", ("Placed", "Order"))
    assert (message.topic, message.key, message.time) == ("orders", "o1", 1234.5)
    assert (message.correlation_id, message.causation_id, message.depth) == ("c0", "e1", 4)
    assert dict(message.headers) == {"who": "me"}
    assert message.event == {"a": 1}


def test_the_first_message_of_a_story_is_its_own_correlation() -> None:
    """It is not stored twice."""
    envelope = Envelope("e1", "events", None, "Placed", 1, 1.0, None, None, 0, None, b"{}")
    message = arrived(envelope, None, lambda: 0.0, lambda correlation: Story())
    assert (message.correlation_id, message.causation_id) == ("e1", None)


@pytest.mark.parametrize("names", [("A",), ("A", "B", "C"), ("order.placed",)])
def test_names_are_split_as_they_were_joined(names: tuple[str, ...]) -> None:
    """Leaf to root, and the leaf is the envelope's name."""
    joined = " ".join(names)
    assert split_names(joined) == names
    assert split_names(joined) is split_names(joined)
    envelope = Envelope("e1", "events", None, joined, 1, 1.0, None, None, 0, None, b"{}")
    assert envelope.name == names[0]
