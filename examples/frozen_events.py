"""Events as frozen dataclasses: facts that nobody can change, in a family of classes.

A handler of a class gets its subclasses too. A pattern selects by name: ``*`` is one token, and a
final ``**`` is the rest. An event's name is that of its class, unless ``@event(name=...)`` says
otherwise. Data that is published under the name of a known class becomes an event of that class.
"""

from dataclasses import FrozenInstanceError, dataclass

from headwater import Bus, Context, event


@event(name="account")
@dataclass(frozen=True)
class AccountEvent:
    owner: str


@event(name="account.deposited")
@dataclass(frozen=True)
class Deposited(AccountEvent):
    pounds: int


@event(name="account.withdrawn")
@dataclass(frozen=True)
class Withdrawn(AccountEvent):
    pounds: int


bus = Bus()


@bus.on(AccountEvent)
def audit(fact: AccountEvent) -> None:
    print(f"  audit, of every account event: {fact}")


@bus.on(Deposited)
def thank(fact: Deposited) -> None:
    print(f"  thank, of deposits alone: thank you, {fact.owner}")


@bus.on("account.*")
def watch(fact: object, context: Context) -> None:
    print(f"  watch, by pattern: {context.name}")


@bus.on(Withdrawn)
def tamper(fact: Withdrawn) -> None:
    try:
        fact.pounds = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    except FrozenInstanceError as error:
        print(f"  tamper, in vain: {error}")


def main() -> None:
    print("a deposit:")
    bus.publish(Deposited("Ada", 100))
    print("a withdrawal:")
    bus.publish(Withdrawn("Ada", 30))
    print("a deposit, published by name:")
    bus.publish("account.deposited", {"owner": "Grace", "pounds": 5})


if __name__ == "__main__":
    main()
