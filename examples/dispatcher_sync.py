"""The classic dispatcher: handlers are plain functions, called while `publish` runs.

A handler that fails stops neither the others nor the publisher. Its error is logged, and it is on
the receipt that `publish` returns.
"""

from dataclasses import dataclass

from headwater import Bus


@dataclass(frozen=True)
class UserRegistered:
    name: str


bus = Bus()


@bus.on(UserRegistered)
def create_profile(user: UserRegistered) -> None:
    print(f"create_profile: made a profile for {user.name}")


@bus.on(UserRegistered)
def book_discount(user: UserRegistered) -> None:
    raise LookupError("there is no discount today")


@bus.on(UserRegistered)
def send_welcome(user: UserRegistered) -> None:
    print(f"send_welcome: welcome, {user.name}!")


@bus.on(UserRegistered, priority=10)
def check_name(user: UserRegistered) -> None:
    print(f"check_name: comes first, its priority is higher; {user.name!r} is fine")


def main() -> None:
    receipt = bus.publish(UserRegistered("Ada"))
    print(f"main: publish has returned, and all is done: {receipt.done}")
    for error in receipt.errors:
        print(f"main: one handler failed: {error!r}")


if __name__ == "__main__":
    main()
