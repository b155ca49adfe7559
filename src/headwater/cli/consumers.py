"""``headwater consumers``: the durable subscriptions of a log, their places, and moving those."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from headwater.cli.failure import Commands, usage
from headwater.cli.humane import ago, iso, moment, plural
from headwater.cli.output import Cell, confirm, number, say, styled, table, write_json
from headwater.cli.target import JsonOption, Target, TargetArgument, YesOption, opened
from headwater.operations import Consumer, Place

consumers = typer.Typer(
    name="consumers",
    cls=Commands,
    no_args_is_help=True,
    help="Durable subscriptions: list, pause, resume, reset, rename, drop.",
    rich_markup_mode="rich",
)
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The durable name, as 'ls' shows it.")
]


@consumers.command()
def ls(target: TargetArgument, *, json: JsonOption = False) -> None:
    """List subscriptions: how far behind each is, and who consumes it.

    lag: events not settled; waiting: retries and what is blocked behind them; dead: dead letters.
    """
    with opened(target) as log:
        found = log.ask(lambda operations: operations.consumers())
    if json:
        write_json([_as_json(each) for each in found])
        return
    now = time.time()
    table(
        ("subscription", "lag", "waiting", "dead", "oldest", "processes", "state"),
        [_row(each, now) for each in found],
        right=("lag", "waiting", "dead", "processes"),
    )
    if not found:
        say("No subscriptions: 'headwater ensure MODULE:BUS' or a starting bus registers them.")


def _row(each: Consumer, now: float) -> list[Cell]:
    return [
        each.name,
        number(each.lag),
        number(each.waiting, "yellow"),
        number(each.dead, "bold red"),
        ago(each.oldest, now),
        number(each.processes),
        state_of(each),
    ]


def state_of(each: Consumer) -> Cell:
    """In a word: paused, idle (nobody consumes it), behind, or up to date."""
    if each.paused:
        return styled("paused")
    if not each.processes:
        return styled("note", "idle")
    return styled("note", "behind") if each.lag else styled("fine", "current")


def _as_json(each: Consumer) -> dict[str, object]:
    return {
        "name": each.name,
        "what": list(each.what),
        "created": iso(each.created),
        "paused": each.paused,
        "lag": each.lag,
        "waiting": each.waiting,
        "dead": each.dead,
        "oldest": iso(each.oldest),
        "processes": each.processes,
    }


@consumers.command()
def lag(
    target: TargetArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One subscription; else all of them.")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Show the place of a subscription lane by lane, and which process has the lane."""
    with opened(target) as log:
        names = [name] if name is not None else _names(log)
        places = {each: _places(log, each) for each in names}
    if json:
        write_json({each: [place._asdict() for place in found] for each, found in places.items()})
        return
    for each, found in places.items():
        if name is None:
            say(each)
        table(
            ("topic", "lane", "position", "lag", "process"),
            [
                (p.topic, str(p.lane), f"{p.position:,}", number(p.lag), p.owner or "-")
                for p in found
            ],
            right=("lane", "position", "lag"),
        )


def _places(log: Target, name: str) -> Sequence[Place]:
    return log.ask(lambda operations: operations.places(name))


def _names(log: Target) -> list[str]:
    return [each.name for each in log.ask(lambda operations: operations.consumers())]


@consumers.command()
def pause(target: TargetArgument, name: NameArgument, *, json: JsonOption = False) -> None:
    """Hold a subscription in all processes: no more of its events are taken from the log."""
    _pause(target, name, paused=True, json=json)


@consumers.command()
def resume(target: TargetArgument, name: NameArgument, *, json: JsonOption = False) -> None:
    """Let a paused subscription go on."""
    _pause(target, name, paused=False, json=json)


def _pause(target: str, name: str, *, paused: bool, json: bool) -> None:
    with opened(target) as log:
        changed = log.ask(lambda operations: operations.pause(name, paused=paused))
    if json:
        write_json({"name": name, "paused": paused, "changed": changed})
    else:
        word = "paused" if paused else "resumed"
        say(f"{name} is {word}." if changed else f"{name} was {word} already.")


ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Also while a process consumes it, or where events are lost."),
]


@consumers.command()
def reset(
    target: TargetArgument,
    name: NameArgument,
    *,
    to: Annotated[
        str,
        typer.Option(metavar="PLACE", help="beginning, end, a position, 5m (ago), or a time."),
    ],
    force: ForceOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Move the place of a subscription: what lies after it is handled again.

    Its retries, dead letters and inbox beyond the new place are forgotten, for those events come
    anew. Refused while a process consumes it.

    [bold]Examples[/bold]

      headwater consumers reset shop.db shop:stock --to beginning
      headwater consumers reset shop.db shop:mail --to 2026-11-23T10:00
    """
    with opened(target) as log:
        _places(log, name)  # Says which there are, if it is none of them.
        position = _position(log, to)
        if not confirm(f"{name} goes on after position {position:,}.", yes=yes):
            raise typer.Exit(1)
        ended = log.ask(lambda operations: operations.reset(name, position, force=force))
    if json:
        write_json({"name": name, "position": position, "forgotten": ended})
        return
    rest = f"; {plural(ended, 'retry or dead letter', 'retries and dead letters')} forgotten"
    say(f"{name} goes on after position {position:,}{rest if ended else ''}.")


def _position(log: Target, to: str) -> int:
    if to == "beginning":
        return 0
    if to.isdecimal():
        return int(to)
    if to in ("end", "new"):
        return log.call(lambda transport: transport.locate(None))
    begin = moment(to, "--to", time.time())
    return log.call(lambda transport: transport.locate(begin))


@consumers.command()
def rename(
    target: TargetArgument,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The durable name that it has.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The durable name that it gets.")],
    *,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Give a subscription's place, retries, dead letters and inbox to another name.

    For a handler that was renamed or moved: the new name goes on where the old one was.

    [bold]Examples[/bold]

      headwater consumers rename shop.db shop:stock.update shop:inventory.update
    """
    for name in (old, new):
        if ":" not in name:
            raise usage(f"{name!r}: expected a durable name, BUS:NAME, as 'consumers ls' shows it")
    with opened(target) as log:
        log.ask(lambda operations: operations.rename(old, new, force=force))
    if json:
        write_json({"old": old, "new": new})
    else:
        say(f"{old} is now {new}.")


@consumers.command()
def drop(
    target: TargetArgument,
    name: NameArgument,
    *,
    force: ForceOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Forget a subscription that no program has any more.

    Refused while it has events that are not settled, or a process consumes it.
    """
    with opened(target) as log:
        _places(log, name)
        if not confirm(f"{name} and its place will be forgotten.", yes=yes):
            raise typer.Exit(1)
        left = log.ask(lambda operations: operations.drop(name, force=force))
    if json:
        write_json({"name": name, "lost": left})
    else:
        lost = f", with {plural(left, 'event')} unsettled" if left else ""
        say(f"{name} is dropped{lost}.")
