"""A decorator that logs around handlers, made with functools.wraps.

`functools.wraps` keeps the handler's name and signature, so the bus sees through the decorator: a
handler that takes the context still gets it, and the topology shows the handler's own name. What is
a coroutine function stays one, so that the last line is logged when its work is done, and not when
it begins.

To log around every handler of a bus, without decorating any, use `Bus.middleware`.
"""

import asyncio
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

from headwater import Bus, Context

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("shop")


@dataclass(frozen=True)
class OrderPlaced:
    order_id: str


def logged(handler: Callable[P, R]) -> Callable[P, R]:
    """Log the beginning and the end of each call of `handler`, sync or async."""
    name = handler.__name__

    @functools.wraps(handler)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with _noted(name, args[0]):
            return handler(*args, **kwargs)

    @functools.wraps(handler)
    async def async_wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        with _noted(name, args[0]):
            return await cast("Any", handler(*args, **kwargs))

    if inspect.iscoroutinefunction(handler):
        return cast("Callable[P, R]", async_wrapper)
    return wrapper


@contextmanager
def _noted(name: str, event: object) -> Generator[None]:
    log.info("%s begins: %s", name, event)
    try:
        yield
    except Exception as error:
        log.warning("%s failed: %r", name, error)
        raise
    log.info("%s is done", name)


bus = Bus(on_error=lambda error, context: "ignore")  # the decorator has logged it


@bus.on(OrderPlaced)
@logged
def reserve(order: OrderPlaced) -> None:
    print(f"reserved {order.order_id}")


@bus.on(OrderPlaced)
@logged
def ship(order: OrderPlaced, context: Context) -> None:
    raise ConnectionError(f"no courier at attempt {context.attempt}")


@bus.on(OrderPlaced)
@logged
async def notify(order: OrderPlaced) -> None:
    await asyncio.sleep(0)
    print(f"told the customer of {order.order_id}")


def main() -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)-7s %(message)s")
    bus.publish(OrderPlaced("o1"))
    print(bus.topology())


if __name__ == "__main__":
    main()
