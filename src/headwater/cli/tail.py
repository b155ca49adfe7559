"""``headwater tail``: events as they come."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from headwater.cli.chapter import event_as_json
from headwater.cli.failure import usage
from headwater.cli.humane import clock, iso, moment
from headwater.cli.output import is_terminal, plain_data, shortened, width, write, write_json
from headwater.cli.target import JsonOption, Target, TargetArgument, opened
from headwater.envelope import Envelope, split_names
from headwater.topic import check_pattern, matches
from headwater.transport import Received

POLL = 0.1
CHUNK = 500
_CONDITION = re.compile(r"([\w.-]+)\s*(!=|>=|<=|=|>|<|~)\s*(.*)", re.DOTALL)

Wants = Callable[[Envelope], bool]


def tail(
    target: TargetArgument,
    *,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="5m, 2h, a time, 'beginning', or after a position."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Only this name or pattern; may be repeated.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COND", help="Only where: item=Book, quantity>3, note~late; all must hold."
        ),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only of this key.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on with what comes.")
    ] = True,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, help="Without --since: begin so many events ago.")
    ] = 10,
    json: JsonOption = False,
) -> None:
    """Show events as they come; --json prints one JSON object per line.

    The number at the left is the event's position: `get` and `trace` take it.

    [bold]Examples[/bold]

      headwater tail shop.db
      headwater tail shop:bus --since 1h --name 'order.**' --where 'quantity>3' --no-follow
    """
    wanted = _wanted(name or [], where or [], key)
    with opened(target) as log:
        after = _start(log, since, last)
        for position, envelope in _events(log, after, follow=follow):
            if not wanted(envelope):
                continue
            if json:
                write_json(event_as_json(position, envelope), stream=True)
            else:
                _line(position, envelope)


def _events(log: Target, after: int, *, follow: bool) -> Iterator[tuple[int, Envelope]]:
    while True:
        before = after
        received, after = _read(log, after)
        yield from ((each.position, each.envelope) for each in received)
        if after <= before:
            after = before
            if not follow:
                return
            time.sleep(POLL)


def _read(log: Target, after: int) -> tuple[Sequence[Received], int]:
    return log.call(lambda transport: transport.read(None, after, None, CHUNK))


def _start(log: Target, since: str | None, last: int) -> int:
    if since == "beginning":
        return 0
    if since is None:
        return max(0, log.call(lambda transport: transport.locate(None)) - last)
    if since.isdecimal():
        return int(since)
    begin = moment(since, "--since", time.time())
    return log.call(lambda transport: transport.locate(begin))


def _wanted(names: list[str], conditions: list[str], key: str | None) -> Wants:
    patterns = [check_pattern(name) for name in names]
    holds = [condition(text) for text in conditions]

    def wanted(envelope: Envelope) -> bool:
        if key is not None and envelope.key != key:
            return False
        if patterns and not any(
            matches(pattern, name) for pattern in patterns for name in split_names(envelope.names)
        ):
            return False
        data = plain_data(envelope.data) if holds else None
        return all(hold(data) for hold in holds)

    return wanted


def condition(text: str) -> Callable[[Any], bool]:
    """What ``field=value`` and its like mean; ``a.b`` is a field of a field.

    Raises:
        Failure: it is no condition.
    """
    found = _CONDITION.fullmatch(text.strip())
    if found is None:
        raise usage(
            f"--where: expected FIELD=VALUE, or != > < >= <= ~ (contains) instead, got {text!r}"
        )
    path, compare, value = found[1].split("."), found[2], found[3].strip()
    wanted = plain_data(value.encode())

    def holds(data: Any) -> bool:
        found: Any = data
        for part in path:
            try:
                found = found[part]
            except (KeyError, TypeError, IndexError):
                return False
        return _holds(found, compare, wanted, value)

    return holds


def _holds(given: Any, compare: str, wanted: Any, text: str) -> bool:
    if compare == "~":
        return text.lower() in str(given).lower()
    equal = given in (wanted, text)
    if compare in ("=", "!="):
        return equal is (compare == "=")
    if not (isinstance(given, int | float) and isinstance(wanted, int | float)):
        given, wanted = str(given), text  # ISO times, say, which sort as text.
    if equal or given == wanted:
        return compare in (">=", "<=")
    return (given > wanted) is (compare in (">", ">="))


def _line(position: int, envelope: Envelope) -> None:
    data = " ".join(envelope.data.decode("utf-8", "replace").split())
    if not is_terminal():
        cells = (str(position), iso(envelope.time) or "", envelope.id, envelope.name,
                 envelope.key or "-", data)  # fmt: skip
        write("\t".join(cells))
        return
    text = Text.assemble(
        (f"{position:>6} ", "bold"), (clock(envelope.time), "dim"), "  ", (envelope.name, "cyan")
    )
    if envelope.key is not None:
        text.append(f" {shortened(envelope.key, 20)}", style="magenta")
    room = width() - len(text.plain) - 2
    text.append(f"  {shortened(data, max(room, 12))}", style="dim")
    Console(highlight=False, soft_wrap=True).print(text)
