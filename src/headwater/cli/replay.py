"""``headwater replay``: past events into a function, counted before they are handed over."""

import asyncio
import time
from typing import Annotated, Any

import typer

from headwater.cli.failure import INTERRUPTED, Failure
from headwater.cli.humane import moment, plural, span
from headwater.cli.output import confirm, number, say, table, write_json
from headwater.cli.progress import make_meter
from headwater.cli.target import JsonOption, Target, TargetArgument, YesOption, load, opened
from headwater.consumer import wants
from headwater.envelope import split_names
from headwater.errors import ReplayFailed
from headwater.registry import check_what


def replay(
    target: TargetArgument,
    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help="A name, a pattern such as 'order.**', MODULE:CLASS."),
    ],
    *,
    into: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="What gets the events, sync or async.")
    ],
    start: Annotated[
        str, typer.Option(metavar="WHEN", help="beginning, after a position, 2h (ago), a time.")
    ] = "beginning",
    end: Annotated[
        str | None, typer.Option(metavar="WHEN", help="A position, 2h (ago), a time; else: now.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: YesOption = False,
    may_publish: Annotated[
        bool, typer.Option("--may-publish", help="The function may publish.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Hand past events to a function; no subscription takes part, and no place is moved.

    It counts first, and asks. If the function fails, or you press Ctrl-C, it says where to go on.

    [bold]Examples[/bold]

      headwater replay shop:bus 'order.**' --into shop.reports:rebuild --start 7d
      headwater replay shop.db OrderPlaced --into shop.reports:rebuild --dry-run
    """
    handler = load(into, "MODULE:FUNCTION")
    wanted = load(what, "MODULE:CLASS") if ":" in what else what
    (checked,) = check_what([wanted])
    with opened(target) as log:
        first, last = _place(log, start, "--start"), _place(log, end, "--end")
        counts = log.ask(lambda operations: operations.tally(first, last))
        names = {n: c for n, c in counts.items() if wants((checked,), split_names(n))}
        total = sum(names.values())
        if dry_run or not json:
            _show_counts(names, first, last, json=json)
        if dry_run or not total:
            return
        if not confirm(f"Hand {plural(total, 'event')} to {into}?", yes=yes):
            raise typer.Exit(1)
        begun = time.monotonic()
        handled = _run(log, wanted, handler, first, last, total, may_publish=may_publish)
    took = time.monotonic() - begun
    if json:
        write_json({"handled": handled, "position": last, "seconds": round(took, 3)})
    else:
        say(f"{plural(handled, 'event')} in {span(took)}, up to position {last:,}.")


def _place(log: Target, text: str | None, option: str) -> int:
    if text == "beginning":
        return 0
    if text is not None and text.isdecimal():
        return int(text)
    when = None if text is None else moment(text, option, time.time())
    return log.call(lambda transport: transport.locate(when))


def _show_counts(names: dict[str, int], first: int, last: int, *, json: bool) -> None:
    if json:
        leaves = {joined.partition(" ")[0]: count for joined, count in names.items()}
        write_json({"events": sum(names.values()), "names": leaves, "start": first, "end": last})
        return
    rows = sorted(names.items(), key=lambda row: -row[1])
    if rows:
        table(
            ("event", "count"),
            [(joined.partition(" ")[0], number(count)) for joined, count in rows],
            right=("count",),
        )
    total = plural(sum(names.values()), "event")
    say(f"{total} after position {first:,} up to {last:,}.")


def _run(
    log: Target, what: Any, handler: Any, first: int, last: int, total: int, *, may_publish: bool
) -> int:
    at = first
    with make_meter(total, "events", quiet=False, verb="Replaying") as meter:

        def told(position: int, handled: int) -> None:
            nonlocal at
            at = position
            meter.show(handled)

        work = log.bus.replay(
            what, start=first, end=last, into=handler, progress=told, may_publish=may_publish
        )
        try:
            return asyncio.run(_awaited(work))
        except ReplayFailed as error:
            raise Failure(
                str(error).partition("; go on")[0], f"go on with --start {error.position}"
            ) from error
        except KeyboardInterrupt:
            raise Failure(
                f"interrupted; everything up to position {at:,} was handled",
                f"go on with --start {at}",
                code=INTERRUPTED,
            ) from None


async def _awaited(work: Any) -> int:
    handled: int = await work
    return handled
