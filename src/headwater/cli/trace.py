"""``headwater trace``: a story as a tree of causes, over all handlers, retries and processes."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from headwater.cli.chapter import as_json, describe, step_as_json
from headwater.cli.humane import clock, plural, span, stamp
from headwater.cli.log import not_found
from headwater.cli.output import say, shortened, show, write_json
from headwater.cli.target import JsonOption, TargetArgument, opened
from headwater.envelope import Envelope
from headwater.operations import Chapter
from headwater.policies.identity import derived

MOST = 1_000
REPEATS = 50
"""How often one handler may publish the same and its events are still told to be its."""


def trace(
    target: TargetArgument,
    id: Annotated[
        str, typer.Argument(metavar="ID", help="An event's id or position: any one of its story.")
    ],
    *,
    limit: Annotated[int, typer.Option(min=1, help="Show so many events at most.")] = MOST,
    json: JsonOption = False,
) -> None:
    """Show the story of an event: what caused what, and what became of it everywhere.

    [bold]Examples[/bold]

      headwater trace shop.db 17
    """
    with opened(target) as log:
        found = log.ask(lambda operations: operations.find(id))
        if found is None:
            raise not_found(target, id)
        begin = found.envelope.correlation or found.envelope.id
        story = log.ask(lambda operations: operations.story(begin, limit))
    if not any(chapter.envelope.id == found.envelope.id for chapter in story):
        story = [found, *story]  # The log has it no longer: a dead letter kept it.
    roots = plant(story)
    if json:
        write_json({"correlation_id": begin, "events": [_json(root) for root in roots]})
        return
    now = time.time()
    for root in roots:
        show(_tree(root, None, found.envelope.id, now))
    if len(story) >= limit:
        say(f"There may be more than {plural(limit, 'event')}: --limit shows more.")


class Node:
    """An event of the story, and what its handlers published.

    Attributes:
        chapter: the event.
        by: what each subscription published, by its name.
        others: what it caused, and no handler is known to have published.
    """

    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter
        self.by: dict[str, list[Node]] = {step.subscription: [] for step in chapter.steps}
        self.others: list[Node] = []

    def adopt(self, child: "Node") -> None:
        """Put an effect below the handler that published it."""
        publisher = publisher_of(child.chapter.envelope, self.chapter.envelope.id, tuple(self.by))
        (self.others if publisher is None else self.by[publisher]).append(child)


def plant(story: Sequence[Chapter]) -> list[Node]:
    """The trees of a story: one, unless some of its causes are gone."""
    nodes = {chapter.envelope.id: Node(chapter) for chapter in story}
    roots = list[Node]()
    for node in nodes.values():
        cause = nodes.get(node.chapter.envelope.causation or "")
        if cause is None or cause is node:
            roots.append(node)
        else:
            cause.adopt(node)
    return roots


def publisher_of(envelope: Envelope, cause: str, subscriptions: Sequence[str]) -> str | None:
    """Whose handler published an event: its id was derived from that; None if it was not."""
    name, key, data = envelope.name, envelope.key, envelope.data
    for subscription in subscriptions:
        first = derived(cause, subscription, name, key, data)
        if envelope.id == first:
            return subscription
        for number in range(1, REPEATS):
            if envelope.id == derived(first, str(number), name, key, b""):
                return subscription
    return None


def _tree(node: Node, before: float | None, asked: str, now: float) -> Tree:
    tree = Tree(_event(node.chapter, before, asked), guide_style="dim")
    _grow(tree, node, asked, now)
    return tree


def _grow(tree: Tree, node: Node, asked: str, now: float) -> None:
    started = node.chapter.envelope.time
    for step in node.chapter.steps:
        branch = tree.add(describe(step, now))
        for child in node.by[step.subscription]:
            _grow(branch.add(_event(child.chapter, started, asked)), child, asked, now)
    for child in node.others:
        _grow(tree.add(_event(child.chapter, started, asked)), child, asked, now)


def _event(chapter: Chapter, before: float | None, asked: str) -> Text:
    envelope = chapter.envelope
    text = Text(envelope.name, style="bold cyan")
    if envelope.key is not None:
        text.append(f" {shortened(envelope.key, 24)}", style="not bold magenta")
    place = str(chapter.position) if chapter.position else envelope.id
    text.append(f"  {place}", style="not bold default")
    if chapter.due is not None:
        text.append(f"  due {stamp(chapter.due)}", style="not bold yellow")
    elif before is None:
        text.append(f"  {stamp(envelope.time)[:10]} {clock(envelope.time)}", style="not bold dim")
    else:
        text.append(f"  +{span(max(0.0, envelope.time - before))}", style="not bold dim")
    if envelope.id == asked and envelope.causation is not None:
        text.append("  <- asked for", style="not bold yellow")
    return text


def _json(node: Node) -> dict[str, Any]:
    handled = [
        {**step_as_json(step), "published": [_json(child) for child in node.by[step.subscription]]}
        for step in node.chapter.steps
    ]
    others = [_json(child) for child in node.others]
    return {**as_json(node.chapter), "handled": handled, "caused": others}
