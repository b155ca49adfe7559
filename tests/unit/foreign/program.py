"""A program that is killed, and run again: causes, their effects, and the effects' effects.

    python -m tests.unit.foreign.program FOLDER WAY

Half of the causes are published into the log, half through a transaction of the user's. Each is
handled once, in a transaction that writes a row and publishes an event; so is that event.
"""

import asyncio
import contextlib
import inspect
import sys
from pathlib import Path

from tests.unit.foreign.databases import ASYNC, PATIENCE, SYNC, Database

from headwater import Bus, Context

CAUSES = 12
MORE = 100
"""What the number of an effect is larger by than that of its cause."""


def main(folder: Path, name: str) -> None:
    """Publish everything, whether an earlier run has or not, and handle all there is."""
    database = Database(folder / "app.db")
    way = (SYNC | ASYNC)[name]
    with way.to(database) as factory:
        bus = Bus(f"sqlite:///{folder}/log.db?lease=2", name="shop")

        def handle(number: int, context: Context) -> None:
            way.write(context.transaction, number)
            if number < MORE:
                bus.publish("effect", number + MORE)

        async def handle_async(number: int, context: Context) -> None:
            written = way.write(context.transaction, number)
            if inspect.isawaitable(written):
                await written
            if number < MORE:
                await bus.publish("effect", number + MORE)

        handler = handle_async if name in ASYNC else handle
        for what in ("cause", "effect"):
            bus.subscribe(what, handler, name=what, transaction=factory)
        asyncio.run(go(bus, database))


async def go(bus: Bus, database: Database) -> None:
    """Run the bus until nothing is left to do."""
    async with bus:
        for number in range(0, CAUSES, 2):
            await bus.publish("cause", number, id=f"cause-{number}")
        await bus.idle(PATIENCE)
        with contextlib.closing(database.connect()) as connection, connection:
            for number in range(1, CAUSES, 2):
                bus.publish("cause", number, id=f"cause-{number}", transaction=connection)
        await bus.idle(PATIENCE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
