"""``headwater publish``, ``get`` and ``prune``: events go in, are looked at, and go."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater import codec
from headwater.cli.chapter import as_json, show_chapter
from headwater.cli.failure import Failure, usage
from headwater.cli.humane import duration, moment, plural
from headwater.cli.output import confirm, say, write, write_json
from headwater.cli.target import JsonOption, TargetArgument, YesOption, opened
from headwater.sending import PublishOptions


def publish(
    target: TargetArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event's name.")],
    data: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="Its data; @FILE reads it, - is stdin.")
    ] = None,
    *,
    key: Annotated[str | None, typer.Option(help="Orders it among others of this key.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header; may be repeated.")
    ] = None,
    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Deliver it later: 30s, 5m, 2h.")
    ] = None,
    id: Annotated[
        str | None, typer.Option("--id", help="Its id: the log keeps an id once.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Publish one event, and print its id.

    With MODULE:BUS the program's class of that name checks the data and gives the key.

    [bold]Examples[/bold]

      headwater publish shop:bus OrderPlaced '{"order_id": "o1", "item": "Book"}'
      headwater publish shop.db order.placed @order.json --key o1 --delay 5m
    """
    options: PublishOptions = {}
    if key is not None:
        options["key"] = key
    if header:
        options["headers"] = dict(_header(each) for each in header)
    if delay is not None:
        options["delay"] = duration(delay, "--delay")
    if id is not None:
        options["id"] = id
    value = None if data is None else _data(data)
    with opened(target, may_make="://" not in target and ":" in target) as log:
        receipt: Any = log.bus.publish(name, value, **options)
    if json:
        write_json({"id": receipt.event_id, "name": name})
    else:
        write(receipt.event_id)


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise usage(f"--header: expected NAME=VALUE, got {text!r}")
    return name, value


def _data(text: str) -> object:
    try:
        if text == "-":
            raw = sys.stdin.buffer.read()
        elif text.startswith("@"):
            raw = Path(text[1:]).read_bytes()
        else:
            raw = text.encode()
        return codec.decode_data(raw)
    except OSError as error:
        raise usage(f"{text[1:]} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise usage(
            f"the data is no JSON: {error}", "put quotes around text: '\"hello\"'"
        ) from error


def get(
    target: TargetArgument,
    id: Annotated[str, typer.Argument(metavar="ID", help="The event's id, or its position.")],
    *,
    json: JsonOption = False,
) -> None:
    """Show one event: its data, its story, and what became of it.

    [bold]Examples[/bold]

      headwater get shop.db 17
      headwater get shop.db 01922e6c-7d3f-7b1e-8c55-2f1f6f0d9a11 --json | jq .data
    """
    with opened(target) as log:
        chapter = log.ask(lambda operations: operations.find(id))
    if chapter is None:
        raise not_found(target, id)
    if json:
        write_json(as_json(chapter))
    else:
        show_chapter(chapter)


def not_found(target: str, id: str) -> Failure:
    """The error of an event that is not there."""
    return Failure(
        f"{target} has no event {id!r}",
        "'headwater tail TARGET --since 1h --no-follow' lists what there is; old events may have"
        " been pruned",
    )


def prune(
    target: TargetArgument,
    *,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="How old: 7d, 12h, or a time: 2026-11-01.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also events that a subscription has not settled.")
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Remove settled events that are older than that.

    What a subscription has not settled is kept, however old it is. Dead letters and retries keep
    their own copies of their events.

    [bold]Examples[/bold]

      headwater prune shop.db --older-than 7d
    """
    before = moment(older_than, "--older-than", time.time())
    if force and not confirm("Unsettled events will be lost.", yes=yes):
        raise typer.Exit(1)
    removed = 0
    with opened(target) as log:
        while some := log.ask(lambda operations: operations.prune(before, force=force)):
            removed += some
    if json:
        write_json({"removed": removed})
    else:
        write(f"removed {plural(removed, 'event')}")
        if removed:
            say("The file keeps its size; what is published next fills the room.")
