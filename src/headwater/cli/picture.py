"""``headwater topology`` and ``guarantees``: what a bus is, without running it."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from headwater.cli.output import write, write_json
from headwater.cli.target import BusArgument, JsonOption, TargetArgument, load_bus, opened
from headwater.topology import Reaction, Topology
from headwater.transport import Capabilities


class Form(StrEnum):
    """How a topology can be printed."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"
    JSON = "json"


def topology(
    bus: BusArgument,
    *,
    form: Annotated[
        Form, typer.Option("--as", help="text, mermaid, dot, svg or json.")
    ] = Form.TEXT,
    json: JsonOption = False,
) -> None:
    """Show who reacts to what; nothing is opened or run.

    [bold]Examples[/bold]

      headwater topology shop:bus
      headwater topology shop:bus --as svg > shop.svg
      headwater topology shop:bus --as dot | dot -Tpng > shop.png
    """
    found = load_bus(bus).topology()
    if json or form is Form.JSON:
        write_json([_as_json(reaction) for reaction in found.reactions])
    elif form is Form.MERMAID:
        write(found.mermaid())
    elif form is Form.SVG:
        write(found.svg())
    elif form is Form.DOT:
        write(dot(found))
    else:
        write(str(found))


def _as_json(reaction: Reaction) -> dict[str, object]:
    plain = (str, int, float, bool)
    options = {
        name: value if isinstance(value, plain) else repr(value)
        for name, value in reaction.options.items()
    }
    return {**reaction._asdict(), "options": options}


def dot(topology: Topology) -> str:
    """The topology in the language of Graphviz."""
    events = dict.fromkeys(reaction.event for reaction in topology.reactions)
    handlers = {reaction.handler: reaction for reaction in topology.reactions}
    lines = ["digraph headwater {", "  rankdir=LR;", '  node [fontname="monospace"];']
    lines += [
        f"  {_quoted('e ' + name)} [label={_quoted(name)}, shape=ellipse];" for name in events
    ]
    lines += [
        f"  {_quoted('h ' + name)} [label={_quoted(name)}, shape=box,"
        f" tooltip={_quoted(reaction.where)}];"
        for name, reaction in handlers.items()
    ]
    lines += [
        f"  {_quoted('e ' + reaction.event)} -> {_quoted('h ' + reaction.handler)};"
        for reaction in topology.reactions
    ]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def guarantees(target: TargetArgument, *, json: JsonOption = False) -> None:
    """Say what a bus promises on its engine: order, duplicates, what survives what.

    [bold]Examples[/bold]

      headwater guarantees shop:bus
      headwater guarantees 'sqlite:///shop.db?synchronous=normal'
    """
    if "://" not in target and ":" in target:
        bus = load_bus(target)
        _promise(bus.guarantees(), bus.capabilities, json=json)
        return
    with opened(target, may_make=True) as log:  # Nothing is opened: the settings say it all.
        _promise(log.bus.guarantees(), log.bus.capabilities, json=json)


def _promise(text: str, capabilities: Capabilities | None, *, json: bool) -> None:
    if json:
        write_json(None if capabilities is None else asdict(capabilities))
    else:
        write(text.rstrip())
