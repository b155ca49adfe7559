"""``headwater bench``: how fast a log is, on this machine and disk, in a few seconds."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater import Bus
from headwater.cli.failure import usage
from headwater.cli.humane import span
from headwater.cli.output import say, table, write_json
from headwater.cli.target import JsonOption

PUBLISHERS = 500
PAYLOAD = {
    "order_id": "o-000001", "item": "Python Book", "quantity": 1, "user_id": 4711,
    "note": "a payload of the usual size: about two hundred bytes of JSON, as orders and the like"
    " have them when nothing is left out",
}  # fmt: skip
SIDE_FILES = ("", "-wal", "-shm", "-lock")


def bench(
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="Of a log that is not there yet; removed afterwards."),
    ] = None,
    *,
    seconds: Annotated[
        float, typer.Option(min=0.05, max=60, help="For each of the two ways to publish.")
    ] = 1.0,
    json: JsonOption = False,
) -> None:
    """Measure publishing and handling on a temporary log.

    A URL chooses the disk and the settings.

    [bold]Examples[/bold]

      headwater bench
      headwater bench 'sqlite:////var/lib/bench.db?synchronous=normal'
    """
    if url is not None:
        path = _path_of(url)
        if path.exists():
            raise usage(f"{path.name} is there already", "name a file that is not: it is removed")
        try:
            results = _measure(url, seconds)
        finally:
            for suffix in SIDE_FILES:
                Path(f"{path}{suffix}").unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
            results = _measure(f"sqlite:///{folder}/bench.db", seconds)
    if json:
        write_json({name: round(value, 6) for name, value in results.items()})
        return
    table(
        ("what", "rate"),
        [
            ("one publisher, each event awaited", f"{results['publish_one']:,.0f}/s"),
            ("  median until it is stored", span(results["publish_median"])),
            (f"{PUBLISHERS} publishers at once", f"{results['publish_many']:,.0f}/s"),
            ("handled and settled, no-op handler", f"{results['settle']:,.0f}/s"),
        ],
        right=("rate",),
    )
    say(f"{results['events']:,.0f} events of about 230 bytes; a quick look, no benchmark.")


def _path_of(url: str) -> Path:
    bus = Bus(url, name="bench")
    settings = getattr(bus._durable and bus._durable.transport, "settings", None)  # pyright: ignore[reportPrivateUsage]
    if settings is None:
        raise usage(f"bench measures logs in files, and {url} is none", "sqlite:///bench.db")
    return Path(settings.path)


def _measure(url: str, seconds: float) -> dict[str, float]:
    bus = Bus(url, name="bench", max_pending=PUBLISHERS * 2)
    handled = 0

    async def handle(order: Any) -> None:
        nonlocal handled
        handled += 1

    bus.subscribe("bench.order", handle, name="handle", concurrency=64)

    async def run() -> dict[str, float]:
        await asyncio.to_thread(_register, bus)
        one = await _publish_one(bus, seconds)
        many, rate = await _publish_many(bus, seconds)
        begun = time.perf_counter()
        async with bus:
            await bus.idle(timeout=120)
            took = time.perf_counter() - begun
        return {
            "publish_one": len(one) / sum(one),
            "publish_median": sorted(one)[len(one) // 2],
            "publish_many": rate,
            "settle": handled / took,
            "events": float(len(one) + many),
        }

    return asyncio.run(run())


def _register(bus: Bus) -> None:
    """Let the subscription begin before the first event, without consuming yet."""
    durable = bus._durable  # pyright: ignore[reportPrivateUsage]
    assert durable is not None
    durable.call(durable.ensure())


async def _publish_one(bus: Bus, seconds: float) -> list[float]:
    times = list[float]()
    until = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until or not times:
        await bus.publish("bench.order", PAYLOAD)
        times.append(time.perf_counter() - begun)
    return times


async def _publish_many(bus: Bus, seconds: float) -> tuple[int, float]:
    begun = time.perf_counter()
    until = begun + seconds

    async def publisher() -> int:
        count = 0
        while time.perf_counter() < until or not count:
            await bus.publish("bench.order", PAYLOAD)
            count += 1
        return count

    counts = await asyncio.gather(*(publisher() for _ in range(PUBLISHERS)))
    return sum(counts), sum(counts) / (time.perf_counter() - begun)
