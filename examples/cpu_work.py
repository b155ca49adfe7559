"""Work that takes long: in worker threads if it waits, in processes if it computes.

A thread does not speed up what Python computes, but it keeps the publisher and its loop free, and
it is enough for whatever waits for a disk or a server. A process computes on another core; its
handler must be a function at the top of a module, since it travels by name, and the event must be
picklable. What it returns is lost to a publisher, so here the result is asked for with `request`.
"""

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from headwater import Bus


@dataclass(frozen=True)
class FileArrived:
    name: str


@dataclass(frozen=True)
class Factorise:
    number: int


@dataclass(frozen=True)
class Factor:
    factor: int
    process: int


def smallest_factor(question: Factorise) -> Factor:
    """Return the smallest factor of the number, and in which process it was found."""
    number, factor = question.number, 2
    while factor * factor <= number:
        if number % factor == 0:
            return Factor(factor, os.getpid())
        factor += 1
    return Factor(number, os.getpid())


def read_file(arrival: FileArrived) -> None:
    """Stand for something that blocks its thread."""
    here = threading.current_thread()
    print(f"{arrival.name} is read in the main thread: {here is threading.main_thread()}")


async def main() -> None:
    context = multiprocessing.get_context("spawn")  # safe beside threads, and the same everywhere
    with ProcessPoolExecutor(max_workers=2, mp_context=context) as processes:
        async with Bus() as bus:
            bus.subscribe(FileArrived, read_file, executor="thread")
            bus.reply(Factorise, executor=processes)(smallest_factor)

            await bus.publish(FileArrived("orders.csv"))

            numbers = [1_000_003 * 1_000_033, 104_729 * 1_299_709, 2_147_483_647]
            replies = await asyncio.gather(
                *(bus.request(Factorise(number), returns=Factor, timeout=60) for number in numbers)
            )
            for number, reply in zip(numbers, replies, strict=True):
                print(f"{number} = {reply.factor} × {number // reply.factor}")
            elsewhere = all(reply.process != os.getpid() for reply in replies)
            print(f"found in other processes: {elsewhere}")


if __name__ == "__main__":
    asyncio.run(main())
