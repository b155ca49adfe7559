"""``headwater run`` and ``ensure``: a bus at work, and a bus registered.

One worker is this very process. Several, and `--reload`, are processes of their own under a crew
(`crew`), each of which ends when the crew is gone.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Annotated

import typer

from headwater import Bus
from headwater.cli.crew import Crew
from headwater.cli.humane import plural
from headwater.cli.output import say, styled, table, write_json
from headwater.cli.target import BusArgument, JsonOption, durable_of, load_bus, names_of

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    bus: BusArgument,
    *,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="How many processes share the work.")
    ] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a .py file in this folder changes.")
    ] = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only log lines.")] = False,
) -> None:
    """Consume until SIGTERM or Ctrl-C, then drain.

    Nothing new is begun then, running handlers get the bus's drain_timeout, what is finished is
    settled, and the exit code is 0. A second Ctrl-C ends it at once: what was under way is
    delivered again. A worker that dies is started again, after a pause that grows.

    [bold]Examples[/bold]

      headwater run shop:bus
      headwater run shop.app:bus --workers 4
      headwater run shop:bus --reload
    """
    if (workers > 1 or reload) and not supervised:
        raise typer.Exit(Crew(bus, workers, reload=reload, tell=_mute if quiet else say).run())
    found = load_bus(bus)
    durable = durable_of(found, bus)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if not quiet and not supervised:
        subscriptions = plural(len(names_of(found)), "subscription")
        engine = durable.transport.capabilities.name
        say(f"{bus}: {subscriptions} on {engine}, process {os.getpid()}. Ctrl-C drains and ends.")
    asyncio.run(_serve(found, supervised=supervised, quiet=quiet or supervised))
    if not quiet and not supervised:
        say("Drained: everything that was finished is settled.")


def _mute(text: str) -> None:
    pass


async def _serve(bus: Bus, *, supervised: bool, quiet: bool) -> None:
    loop = asyncio.get_running_loop()
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        # A raw handler, for the loop may be busy with somebody's handler when the second one comes.
        nonlocal asked
        if asked:
            sys.stderr.flush()
            os._exit(128 + number)
        asked = True
        loop.call_soon_threadsafe(bus.stop)
        if not quiet:
            os.write(2, b"Draining; Ctrl-C again ends at once.\n")

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    if supervised:
        threading.Thread(target=_watch_crew, args=(loop, bus), daemon=True).start()
    try:
        await bus.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_crew(loop: asyncio.AbstractEventLoop, bus: Bus) -> None:
    """Drain when the crew is gone: it holds the other end of this process's stdin."""
    while os.read(0, 64):
        pass
    loop.call_soon_threadsafe(bus.stop)


def ensure(bus: BusArgument, *, json: JsonOption = False) -> None:
    """Register a bus's subscriptions without consuming: their places begin now.

    Run it before the program that publishes is deployed, so that no event is missed.
    """
    found = load_bus(bus)
    durable = durable_of(found, bus)
    try:
        new = set(durable.call(durable.ensure()))
    finally:
        found.stop()
    names = names_of(found)
    if json:
        write_json([{"name": name, "new": name in new} for name in names])
        return
    table(
        ("subscription", "state"),
        [(name, styled("fine", "new") if name in new else "was there") for name in names],
    )
