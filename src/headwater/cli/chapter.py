"""One event and what became of it, as text and as JSON; `get`, `trace` and `tail` share it."""

import time
from typing import Any

from rich.text import Text

from headwater.cli.humane import iso, span, stamp
from headwater.cli.output import (
    fields,
    is_terminal,
    plain_data,
    pretty,
    show,
    styled,
    write,
)
from headwater.envelope import Envelope, split_names
from headwater.operations import Chapter, Step

_WORDS = {
    "settled": "settled",
    "underway": "under way",
    "waiting": "waiting",
    "paused": "waiting: paused",
    "retry": "will be tried again",
    "blocked": "waits behind its key",
    "dead": "dead letter",
    "skipped": "before its place: never handled",
}


def event_as_json(position: int, envelope: Envelope) -> dict[str, Any]:
    """An event for programs."""
    headers = headers_of(envelope)
    return {
        "id": envelope.id,
        "position": position or None,
        "name": envelope.name,
        "names": list(split_names(envelope.names)),
        "version": envelope.version,
        "topic": envelope.topic,
        "key": envelope.key,
        "time": iso(envelope.time),
        "correlation_id": envelope.correlation or envelope.id,
        "causation_id": envelope.causation,
        "depth": envelope.depth,
        "headers": headers,
        "data": plain_data(envelope.data),
    }


def headers_of(envelope: Envelope) -> dict[str, str]:
    """An event's headers."""
    headers: dict[str, str] = {} if envelope.headers is None else plain_data(envelope.headers)
    return headers


def as_json(chapter: Chapter) -> dict[str, Any]:
    """An event and its steps for programs."""
    event = event_as_json(chapter.position, chapter.envelope)
    return {**event, "due": iso(chapter.due), "handled": [step_as_json(s) for s in chapter.steps]}


def step_as_json(step: Step) -> dict[str, Any]:
    """What became of an event with one subscription, for programs."""
    found: dict[str, Any] = {"subscription": step.subscription, "state": step.stage}
    entry = step.entry
    if entry is not None:
        found |= {
            "attempts": entry.attempts,
            "due": iso(entry.due or None),
            "error": entry.error or None,
            "kind": entry.kind or None,
            "letter": entry.number if step.stage == "dead" else None,
        }
    return found


def describe(step: Step, now: float) -> Text:
    """What became of an event with one subscription, in a line."""
    text = Text.assemble(f"{step.subscription}  ", styled(step.stage, _WORDS[step.stage]))
    entry = step.entry
    if entry is None:
        return text
    if step.stage == "dead":
        text.append(f" {entry.number}", style="bold red")
    if step.stage == "retry":
        wait = entry.due - now
        text.append(f" in {span(wait)}" if wait > 0 else " now", style="yellow")
    if entry.attempts:
        text.append(f", {entry.attempts} attempt{'s' if entry.attempts > 1 else ''}")
    if entry.kind:
        text.append(f": {entry.kind}: {' '.join(entry.error.split())}", style="red")
    return text


def show_chapter(chapter: Chapter) -> None:
    """Print all of an event."""
    envelope, now = chapter.envelope, time.time()
    names = split_names(envelope.names)
    headers = headers_of(envelope)
    origin = "" if envelope.causation is None else f"{envelope.causation}, depth {envelope.depth}"
    place = f"{chapter.position} in {envelope.topic}"
    if chapter.due is not None:
        place = f"none yet: due {stamp(chapter.due)}"
    fields(
        [
            ("name", Text(names[0], style="bold cyan") + "".join(f" < {n}" for n in names[1:])),
            ("id", envelope.id),
            ("position", place),
            ("key", envelope.key or ""),
            ("time", stamp(envelope.time)),
            ("story", envelope.correlation or "begins here"),
            ("caused by", origin),
            *((f"header {name}", value) for name, value in headers.items()),
        ]
    )
    write("")
    text = pretty(envelope.data)
    if is_terminal():
        from rich.syntax import Syntax  # It brings a library of its own along.

        show(Syntax(text, "json", background_color="default", word_wrap=True))
    else:
        write(text)
    if chapter.steps:
        write("")
    for step in chapter.steps:
        show(describe(step, now))
