"""Handlers made with functools.partial: one function, subscribed with different settings.

Each partial is a subscription of its own, even if two of them are equal. `name=` tells them apart
in logs, records and the topology, where otherwise all would have the name of the one function.
"""

from dataclasses import dataclass
from functools import partial

from headwater import Bus


@dataclass(frozen=True)
class PriceChanged:
    article: str
    pounds: int


def tell(channel: str, change: PriceChanged, *, urgent: bool = False) -> None:
    mark = "!" if urgent else ""
    print(f"{channel}: {change.article} now costs £{change.pounds}{mark}")


def main() -> None:
    bus = Bus()
    bus.subscribe(PriceChanged, partial(tell, "letter"), name="letter")
    sms = bus.subscribe(PriceChanged, partial(tell, "sms", urgent=True), name="sms")
    bus.subscribe(
        PriceChanged,
        partial(tell, "siren", urgent=True),
        name="siren",
        where=lambda change: change.pounds < 10,
    )
    print(bus.topology())

    print("\nA lantern for £12:")
    bus.publish(PriceChanged("lantern", 12))

    print("\nA lantern for £9, without sms:")
    sms.close()
    bus.publish(PriceChanged("lantern", 9))


if __name__ == "__main__":
    main()
