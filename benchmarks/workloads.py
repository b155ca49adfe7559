"""What is published and handled: one event and one handler body for every library alike.

A workload is a colour (sync or async), a number of handlers, what a handler does, and whether
unrelated context variables are set around it. Handlers are compiled from text, so that a library
that demands another signature still gets the very same body.
"""

from asyncio import sleep
from collections.abc import Iterator
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Literal, cast

Colour = Literal["sync", "async"]
Body = Literal["empty", "realistic"]

UPDATE = "stock[event.item] = stock.get(event.item, 0) - event.quantity"
BODIES: dict[tuple[Colour, Body], list[str]] = {
    ("sync", "empty"): ["pass"],
    ("async", "empty"): ["pass"],
    ("sync", "realistic"): [UPDATE],
    # An async handler that deserves its colour suspends at least once.
    ("async", "realistic"): ["await sleep(0)", UPDATE],
}
BODY_TITLES: dict[tuple[Colour, Body], str] = {
    ("sync", "empty"): "empty",
    ("async", "empty"): "empty",
    ("sync", "realistic"): "updating a dict",
    ("async", "realistic"): "suspending once and updating a dict",
}

VARIABLES = tuple(ContextVar[int](f"variable_{number}") for number in range(8))


@dataclass(frozen=True)
class OrderPlaced:
    """The event of every workload."""

    order_id: str
    item: str
    quantity: int


EVENT = OrderPlaced("o1", "Python Book", 1)


def compiled(name: str, source: str, names: dict[str, object]) -> FunctionType:
    """Compile the function `name` from `source`, with `names` as its module."""
    module = dict(names)
    exec(source, module)  # noqa: S102 - the text is our own
    return cast("FunctionType", module[name])


@dataclass(frozen=True)
class Workload:
    """One table of the result: the same work for every contender in it.

    `variables` sets eight other context variables: setting one more costs more the more there are.
    """

    colour: Colour
    count: int
    body: Body = "empty"
    variables: bool = False
    event: OrderPlaced = field(default=EVENT, repr=False)

    @property
    def title(self) -> str:
        """The heading of the table."""
        handlers = "1 handler" if self.count == 1 else f"{self.count} handlers"
        around = ", eight other context variables set" if self.variables else ""
        return f"{self.colour}, {handlers}, {BODY_TITLES[self.colour, self.body]}{around}"

    def handlers(self, signature: str = "event") -> list[FunctionType]:
        """Make `count` separate functions; each keeps its own stock."""
        head = "def" if self.colour == "sync" else "async def"
        lines = [f"{head} handler({signature}):", *BODIES[self.colour, self.body]]
        source = "\n    ".join(lines)
        made = []
        for number in range(self.count):
            stock: dict[str, int] = {}
            handler = compiled("handler", source, {"stock": stock, "sleep": sleep})
            handler.__name__ = handler.__qualname__ = f"handler_{number}"
            made.append(handler)
        return made

    def context(self) -> Context:
        """Make the context that a batch runs in: empty, or with eight variables set."""
        context = Context()
        if self.variables:
            for number, variable in enumerate(VARIABLES):
                context.run(variable.set, number)
        return context


def workloads() -> Iterator[Workload]:
    """Yield every workload, in the order of the report."""
    colours: tuple[Colour, Colour] = ("sync", "async")
    variations: list[dict[str, Any]] = [{}, {"variables": True}, {"body": "realistic"}]
    for colour in colours:
        for variation in variations:
            for count in (1, 10):
                yield Workload(colour, count, **variation)
