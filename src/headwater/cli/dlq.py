"""``headwater dlq``: dead letters, what they have in common, and what becomes of them."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from headwater.cli import letters as groups_of
from headwater.cli.editor import edited
from headwater.cli.failure import Commands, Failure, usage
from headwater.cli.humane import ago, duration, iso, plural, stamp
from headwater.cli.letters import Group
from headwater.cli.output import (
    confirm,
    fields,
    is_terminal,
    plain_data,
    pretty,
    say,
    shortened,
    table,
    write,
    write_json,
)
from headwater.cli.target import JsonOption, Target, TargetArgument, YesOption, opened
from headwater.deadletters import DeadLetter

ALL = 1_000_000
ROOM = 46

dlq = typer.Typer(
    name="dlq",
    cls=Commands,
    no_args_is_help=True,
    help="Dead letters: list, group, show, retry, edit, discard.",
    rich_markup_mode="rich",
)
SubscriptionOption = Annotated[
    str | None, typer.Option("--subscription", "-s", help="Of this durable name.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Of events of this name.")]
ErrorOption = Annotated[
    str | None, typer.Option("--error", help="Of this error's class, such as ValueError.")
]
KeyOption = Annotated[str | None, typer.Option("--key", help="Of events of this key.")]
AgeOption = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="Given up so long ago: 2h, 7d.")
]
GroupOption = Annotated[
    str | None, typer.Option("--group", metavar="GROUP", help="Of this group; see 'dlq groups'.")
]
LetterArgument = Annotated[int, typer.Argument(metavar="LETTER", help="The letter's number.")]
LettersArgument = Annotated[
    list[int] | None, typer.Argument(metavar="[LETTER]...", help="Their numbers.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]


@dlq.command()
def ls(
    target: TargetArgument,
    *,
    subscription: SubscriptionOption = None,
    name: NameOption = None,
    error: ErrorOption = None,
    key: KeyOption = None,
    older_than: AgeOption = None,
    group: GroupOption = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 100,
    json: JsonOption = False,
) -> None:
    """List dead letters, latest first."""
    with opened(target) as log:
        asked = ALL if group else limit
        found = _select(log, (), subscription, name, error, key, older_than, group, asked)[:limit]
    if json:
        write_json([_as_json(letter) for letter in found])
        return
    now = time.time()
    table(
        ("letter", "event", "subscription", "error", "tries", "age"),
        [
            (
                str(letter.id),
                Text(letter.name, style="cyan"),
                letter.subscription,
                Text(_short_error(letter), style="red"),
                str(letter.attempts),
                ago(letter.time, now).removesuffix(" ago"),
            )
            for letter in found
        ],
        right=("letter", "tries"),
    )
    if not found:
        say("No dead letters.")
    elif len(found) == limit:
        say(f"There may be more than {limit:,}: --limit shows more, 'dlq groups' sums up.")


def _short_error(letter: DeadLetter) -> str:
    text = f"{letter.kind}: {' '.join(letter.error.split())}"
    return shortened(text, ROOM) if is_terminal() else text


@dlq.command()
def groups(
    target: TargetArgument, *, subscription: SubscriptionOption = None, json: JsonOption = False
) -> None:
    """Sum up dead letters by where they failed, and with which error.

    `retry`, `discard` and `ls` take a group's name with --group.
    """
    with opened(target) as log:
        found = groups_of.grouped(log.letters.list(subscription=subscription, limit=ALL).result())
    if json:
        write_json([_group_as_json(group) for group in found])
        return
    now = time.time()
    table(
        ("group", "letters", "subscription", "error", "where", "last"),
        [
            (
                Text(group.name, style="bold"),
                f"{len(group.letters):,}",
                group.subscription,
                Text(group.kind, style="red"),
                group.where,
                ago(group.last, now).removesuffix(" ago"),
            )
            for group in found
        ],
        right=("letters",),
    )
    if not found:
        say("No dead letters.")


def _group_as_json(group: Group) -> dict[str, object]:
    return {
        "group": group.name,
        "letters": len(group.letters),
        "subscription": group.subscription,
        "kind": group.kind,
        "where": group.where,
        "first": iso(group.first),
        "last": iso(group.last),
        "example": group.letters[0].id,
    }


@dlq.command()
def show(target: TargetArgument, letter: LetterArgument, *, json: JsonOption = False) -> None:
    """Show one dead letter: its error, where that came from, and its data."""
    with opened(target) as log:
        found = _letter(log, letter)
    if json:
        write_json({**_as_json(found), "traceback": found.traceback})
        return
    parked = f"yes: {plural(found.waiting, 'event')} of its key waits behind it"
    fields(
        [
            ("letter", str(found.id)),
            ("event", Text(found.name, style="bold cyan")),
            ("id", found.event_id),
            ("position", f"{found.position} in {found.topic}"),
            ("key", found.key or ""),
            ("subscription", found.subscription),
            ("error", Text(f"{found.kind}: {found.error}", style="red")),
            ("attempts", str(found.attempts)),
            ("given up", f"{stamp(found.time)}, {ago(found.time, time.time())}"),
            ("parked", parked if found.parked else ""),
        ]
    )
    write("\n" + pretty(found.data))
    if found.traceback:
        write("\n" + found.traceback.rstrip())


@dlq.command()
def retry(
    target: TargetArgument,
    letters: LettersArgument = None,
    *,
    subscription: SubscriptionOption = None,
    name: NameOption = None,
    error: ErrorOption = None,
    key: KeyOption = None,
    older_than: AgeOption = None,
    group: GroupOption = None,
    every: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Let handlers have dead letters again, from the first attempt.

    [bold]Examples[/bold]

      headwater dlq retry shop.db 4 5
      headwater dlq retry shop.db --error ConnectionError
      headwater dlq retry shop.db --group 3f9a
    """
    filters = (subscription, name, error, key, older_than, group)
    _check_some(letters, filters, every=every)
    with opened(target) as log:
        chosen = _select(log, tuple(letters or ()), *filters, ALL)
        count = log.letters.retry(*_ids(chosen)).result() if chosen else 0
    if json:
        write_json({"retried": count})
    else:
        say(f"{plural(count, 'dead letter')} will be tried again.")
    _found_some(count, letters)


@dlq.command()
def edit(
    target: TargetArgument,
    letter: LetterArgument,
    data: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The new data; without, $EDITOR opens.")
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Give a dead letter other data, and let its handler have it again.

    [bold]Examples[/bold]

      headwater dlq edit shop.db 4
      headwater dlq edit shop.db 4 '{"order_id": "o1", "quantity": 1}'
    """
    with opened(target) as log:
        found = _letter(log, letter)
        changed = edited(found, data)
        if changed is None:
            say("Nothing was changed.")
            return
        if not log.letters.edit(letter, changed).result():
            raise Failure(f"there is no dead letter {letter} any more")
    if json:
        write_json({"edited": letter})
    else:
        say(f"Dead letter {letter} has new data, and will be tried again.")


@dlq.command()
def discard(
    target: TargetArgument,
    letters: LettersArgument = None,
    *,
    subscription: SubscriptionOption = None,
    name: NameOption = None,
    error: ErrorOption = None,
    key: KeyOption = None,
    older_than: AgeOption = None,
    group: GroupOption = None,
    every: AllOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Forget dead letters; events that wait behind one go on."""
    filters = (subscription, name, error, key, older_than, group)
    _check_some(letters, filters, every=every)
    with opened(target) as log:
        chosen = _select(log, tuple(letters or ()), *filters, ALL)
        what = plural(len(chosen), "dead letter")
        if chosen and not confirm(f"{what} will be lost.", yes=yes):
            raise typer.Exit(1)
        count = log.letters.discard(*_ids(chosen)).result() if chosen else 0
    if json:
        write_json({"discarded": count})
    else:
        say(f"{plural(count, 'dead letter')} discarded.")
    _found_some(count, letters)


def _check_some(letters: list[int] | None, filters: Sequence[object], *, every: bool) -> None:
    if not letters and not any(filters) and not every:
        raise usage("which dead letters?", "name their numbers, a filter such as --error, or --all")


def _found_some(count: int, letters: list[int] | None) -> None:
    """Numbers that are named and not there are a failure; a filter that finds none is not."""
    if letters and count < len(set(letters)):
        raise Failure(f"{plural(len(set(letters)) - count, 'letter')} of those named not there")


def _ids(letters: Sequence[DeadLetter]) -> list[int]:
    return [letter.id for letter in letters]


def _letter(log: Target, number: int) -> DeadLetter:
    found = log.letters.get(number).result()
    if found is None:
        raise Failure(f"there is no dead letter {number}", "'headwater dlq ls' lists what there is")
    return found


def _select(
    log: Target,
    numbers: tuple[int, ...],
    subscription: str | None,
    name: str | None,
    error: str | None,
    key: str | None,
    older_than: str | None,
    group: str | None,
    limit: int,
) -> Sequence[DeadLetter]:
    """The letters that match everything that was said."""
    age = None if older_than is None else duration(older_than, "--older-than")
    found = log.letters.list(
        subscription=subscription, name=name, error=error, key=key, older_than=age, limit=limit
    ).result()
    if numbers:
        found = [letter for letter in found if letter.id in numbers]
    if group is not None:
        found = [letter for letter in found if groups_of.name_of(letter).startswith(group)]
    return found


def _as_json(letter: DeadLetter) -> dict[str, object]:
    return {
        "letter": letter.id,
        "event_id": letter.event_id,
        "name": letter.name,
        "subscription": letter.subscription,
        "key": letter.key,
        "topic": letter.topic,
        "position": letter.position,
        "kind": letter.kind,
        "error": letter.error,
        "attempts": letter.attempts,
        "time": iso(letter.time),
        "parked": letter.parked,
        "waiting": letter.waiting,
        "group": groups_of.name_of(letter),
        "data": plain_data(letter.data),
    }
