"""``headwater doctor``: is everything in order?"""

import platform
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from headwater import __version__
from headwater.cli.failure import FAILED
from headwater.cli.humane import ago, plural
from headwater.cli.output import is_terminal, say, show, styled, write, write_json
from headwater.cli.target import JsonOption, Target, TargetArgument, names_of, opened
from headwater.errors import BadLog, HeadwaterError
from headwater.operations import Consumer, Finding, Level

MARKS: dict[Level, str] = {"fine": "ok", "note": "note", "wrong": "WRONG"}


def doctor(
    target: TargetArgument,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what reads all of the file.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Look whether a log is in order; the exit code is 1 if something is wrong.

    With MODULE:BUS it also finds subscriptions that are stored and that the program does not have.

    [bold]Examples[/bold]

      headwater doctor shop.db
      headwater doctor shop:bus --quick
    """
    findings = [_versions()]
    with opened(target) as log:
        try:
            findings += log.ask(lambda operations: operations.check(quick=quick))
            findings += _members(log)
            findings += _consumers(log)
        except BadLog as error:
            findings.append(Finding("wrong", "log", str(error)))
        except HeadwaterError as error:
            findings.append(Finding("wrong", type(error).__name__, str(error)))
    wrong = sum(finding.level == "wrong" for finding in findings)
    if json:
        write_json({"well": not wrong, "findings": [finding._asdict() for finding in findings]})
    else:
        _print(findings)
        say(f"{plural(wrong, 'thing')} wrong." if wrong else "Nothing is wrong.")
    if wrong:
        raise typer.Exit(FAILED)


def _print(findings: Sequence[Finding]) -> None:
    if not is_terminal():  # A line for each, so that grep finds whole ones.
        for level, subject, text, fix in findings:
            write(f"{MARKS[level]:5}  {subject}: {text}" + (f"  (fix: {fix})" if fix else ""))
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(style="bold")
    grid.add_column()
    for level, subject, text, fix in findings:
        line = Text(text)
        if fix:
            line.append(f"\nfix: {fix}", style="dim")
        grid.add_row(styled(level, MARKS[level]), subject, line)
    show(grid)


def _versions() -> Finding:
    text = f"headwater {__version__}, Python {platform.python_version()}, {platform.system()}"
    return Finding("fine", "versions", text)


def _members(log: Target) -> list[Finding]:
    members = log.ask(lambda operations: operations.members())
    living = [member for member in members if member.alive]
    names = ", ".join(f"{member.process} ({member.lanes} lanes)" for member in living)
    found = [Finding("fine", "processes", names or "none consumes now")]
    dead = [member for member in members if not member.alive]
    if dead:
        names = ", ".join(member.process for member in dead)
        what = f"died without a goodbye: {names}"
        fix = "the next process that starts takes over what they had"
        found.append(Finding("note", "processes", what, "" if living else fix))
    return found


def _consumers(log: Target) -> list[Finding]:
    consumers = log.ask(lambda operations: operations.consumers())
    now = time.time()
    found = [_strangers(log, consumers)] if log.is_program else []
    found.append(Finding("fine", "subscriptions", f"{len(consumers):,}"))
    for each in consumers:
        found += _consumer(each, now)
    return [finding for finding in found if finding.text]


def _strangers(log: Target, consumers: Sequence[Consumer]) -> Finding:
    """Stored subscriptions of this program that its code does not have."""
    known = names_of(log.bus)
    prefix = f"{log.bus.name}:"
    lost = [c for c in consumers if c.name.startswith(prefix) and c.name not in known]
    if not lost:
        return Finding("fine", "code", "every stored subscription has its handler")
    names = ", ".join(f"{c.name} ({plural(c.lag + c.waiting, 'event')} waiting)" for c in lost)
    return Finding(
        "wrong",
        "code",
        f"stored, and without a handler: {names}",
        "'headwater consumers rename' if the handler has a new name, else 'drop'; until then the"
        " log keeps their events",
    )


def _consumer(each: Consumer, now: float) -> list[Finding]:
    found = list[Finding]()
    if each.paused:
        text = f"paused, {plural(each.lag, 'event')} behind"
        found.append(Finding("note", each.name, text, "'headwater consumers resume' lets it go on"))
    elif each.lag:
        who = "" if each.processes else "; nobody consumes it"
        text = f"{plural(each.lag, 'event')} behind, the oldest from {ago(each.oldest, now)}{who}"
        fix = "" if each.processes else "start its program: headwater run MODULE:BUS"
        found.append(Finding("fine" if each.processes else "note", each.name, text, fix))
    if each.dead:
        text = plural(each.dead, "dead letter")
        found.append(Finding("note", each.name, text, "'headwater dlq groups' sums them up"))
    return found
