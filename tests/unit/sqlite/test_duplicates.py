"""An id that is in the log already: the position it would have had is given to another event."""

from pathlib import Path

from headwater import Bus

PATIENCE = 10.0


def test_a_duplicate_hides_nothing_that_comes_later(tmp_path: Path) -> None:
    """The event after it is handled too, by the process that stored the duplicate."""
    bus, seen = Bus(f"sqlite:///{tmp_path}/shop.db", name="shop"), list[int]()
    bus.subscribe("placed", seen.append, name="see")
    with bus:
        bus.publish("placed", 1, id="one")
        bus.idle(PATIENCE)
        bus.publish("placed", 1, id="one")
        bus.idle(PATIENCE)
        bus.publish("placed", 2)
        bus.idle(PATIENCE)
    assert seen == [1, 2]
