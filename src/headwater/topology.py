"""Who reacts to what: as data, text, Mermaid and, in notebooks, a picture."""

from collections.abc import Iterable
from typing import NamedTuple

from headwater.event import name_of
from headwater.options import DEFAULTS, DURABLE_DEFAULTS, Options
from headwater.subscription import Subscription

NOBODY = "nobody reacts to anything yet"

_ROW = 32  # Pixels from one box to the next, and so on below.
_BOX = 24
_BASELINE = 20
_GAP = 140
_LETTER = 8
_LONGEST = 56  # Letters of a name that are shown; the rest is in the tooltip.

# Of each event: the tint of its box, and the line to whoever reacts. Boxes are light and lines of
# middle brightness, so that the picture can be read on white and on black.
_PALETTE = (
    ("#dbeafe", "#3b82f6"),
    ("#d1fae5", "#10b981"),
    ("#fef3c7", "#d99a0b"),
    ("#ede9fe", "#8b5cf6"),
    ("#ffe4e6", "#f0566e"),
    ("#cffafe", "#06a5bf"),
)
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})


class Reaction(NamedTuple):
    """One arrow: this subscription reacts to that event.

    Attributes:
        event: the event's name, or the pattern.
        handler: the subscription's name.
        colour: how it runs: inline, async, thread, pump, executor or process.
        where: ``file:line`` of the handler.
        options: those that are set, by name.
    """

    event: str
    handler: str
    colour: str
    where: str
    options: dict[str, object]

    @property
    def how(self) -> str:
        """How it is handled, in words: the colour, and the names of options."""
        return ", ".join([self.colour, *(o for o in self.options if o not in ("name", "executor"))])


class Topology:
    """Who reacts to what on one bus, at the moment it was asked for.

    Attributes:
        reactions: every arrow, in order of registration.
    """

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self.reactions = tuple(
            Reaction(
                event=what if isinstance(what, str) else name_of(what),
                handler=subscription.name,
                colour=subscription.colour,
                where=subscription.handler.where,
                options=_set_options(subscription),
            )
            for subscription in subscriptions
            for what in subscription.what
        )

    def mermaid(self) -> str:
        """A flowchart for documents that render Mermaid."""
        events, handlers = self._rows()
        lines = ["flowchart LR"]
        lines += [f'  e{n}(["{_quoted(event)}"])' for n, event in enumerate(events)]
        lines += [f'  h{n}["{_quoted(handler)}"]' for n, handler in enumerate(handlers)]
        lines += [f"  e{events[r.event]} --> h{handlers[r.handler]}" for r in self.reactions]
        return "\n".join(lines)

    def svg(self) -> str:
        """A picture: events at the left, handlers at the right, an arrow for each reaction."""
        events, handlers = self._rows()
        first = {reaction.handler: reaction for reaction in reversed(self.reactions)}
        names = (_letters(_short(name)) + len(first[name].how) for name in handlers)
        left = 24 + _LETTER * max((_letters(_short(event)) for event in events), default=8)
        right = 40 + _LETTER * max(names, default=8)
        rows = max(len(events), len(handlers), 1)
        # The shorter column stands in the middle of the longer one.
        high, low = ((rows - len(column)) * _ROW // 2 for column in (events, handlers))
        parts = [_opening(left + _GAP + right, rows * _ROW)]
        for reaction in self.reactions:
            row = events[reaction.event]
            y1, y2 = high + row * _ROW, low + handlers[reaction.handler] * _ROW
            parts.append(_arrow(left, y1, left + _GAP, y2, _line(row)))
        for event, row in events.items():
            parts.append(_event_box(event, row, high + row * _ROW, left))
        for handler, row in handlers.items():
            parts.append(_handler_box(first[handler], left + _GAP, low + row * _ROW, right))
        return "".join([*parts, "</svg>"])

    def _rows(self) -> tuple[dict[str, int], dict[str, int]]:
        """The rows of events and of handlers, which stand beside theirs: so few arrows cross."""
        events: dict[str, int] = {}
        rows_of: dict[str, list[int]] = {}
        for reaction in self.reactions:
            row = events.setdefault(reaction.event, len(events))
            rows_of.setdefault(reaction.handler, []).append(row)
        handlers = sorted(rows_of, key=lambda name: sum(rows_of[name]) / len(rows_of[name]))
        return events, {handler: row for row, handler in enumerate(handlers)}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        if not self.reactions:
            return f"<em>{NOBODY}</em>"
        return f'<div style="overflow-x:auto">{self.svg()}</div>'

    def __str__(self) -> str:
        if not self.reactions:
            return NOBODY
        width = max(len(reaction.event) for reaction in self.reactions)
        lines: list[str] = []
        last = None
        for reaction in sorted(self.reactions, key=lambda reaction: reaction.event):
            event = reaction.event if reaction.event != last else ""
            lines.append(f"{event:{width}} -> {reaction.handler} ({reaction.how})")
            last = reaction.event
        return "\n".join(lines)

    __repr__ = __str__


def _set_options(subscription: Subscription) -> dict[str, object]:
    usual = DURABLE_DEFAULTS if subscription.durable else DEFAULTS
    every = zip(Options._fields, subscription.options, usual, strict=True)
    return {name: value for name, value, default in every if value != default}


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _quoted(text: str) -> str:
    return _escaped(text).replace("&quot;", "#quot;")


def _short(name: str) -> str:
    """The end of a name, which tells more than its beginning."""
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]


def _letters(text: str) -> int:
    """How many letters wide a text is: Chinese, Japanese and Korean ones count twice."""
    return sum(2 if letter >= "\u2e80" else 1 for letter in text)


def _line(row: int) -> str:
    return _PALETTE[row % len(_PALETTE)][1]


def _opening(width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-size="13" role="img"'
        ' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"'
        ' aria-label="who reacts to what">'
    )


def _arrow(x1: int, top1: int, x2: int, top2: int, line: str) -> str:
    middle, y1, y2 = (x1 + x2) // 2, top1 + _ROW // 2, top2 + _ROW // 2
    return (
        f'<path d="M{x1} {y1} C{middle} {y1} {middle} {y2} {x2 - 7} {y2}" fill="none"'
        f' stroke="{line}" stroke-width="1.5"/>'
        f'<path d="M{x2 - 8} {y2 - 4} l8 4 l-8 4 z" fill="{line}"/>'
    )


def _box(x: int, top: int, width: int, style: str) -> str:
    y = top + (_ROW - _BOX) // 2
    return f'<rect x="{x + 1}" y="{y}" width="{width - 2}" height="{_BOX}" {style}/>'


def _event_box(name: str, row: int, top: int, width: int) -> str:
    tint = _PALETTE[row % len(_PALETTE)][0]
    box = _box(0, top, width, f'rx="{_BOX // 2}" fill="{tint}" stroke="{_line(row)}"')
    return (
        f"<g><title>{_escaped(name)}</title>{box}"
        f'<text x="{width // 2}" y="{top + _BASELINE}" text-anchor="middle" fill="#0f172a">'
        f"{_escaped(_short(name))}</text></g>"
    )


def _handler_box(reaction: Reaction, x: int, top: int, width: int) -> str:
    """Its module is dim, what it is called in there is not; how it runs stands at the end."""
    name, short = reaction.handler, _short(reaction.handler)
    split = max(0, _module_length(name) - (len(name) - len(short)))
    box = _box(x, top, width, 'rx="4" fill="#f8fafc" stroke="#94a3b8"')
    return (
        f"<g><title>{_escaped(name)}\n{_escaped(reaction.where)}\n{reaction.how}</title>{box}"
        f'<text x="{x + 12}" y="{top + _BASELINE}" fill="#0f172a">'
        f'<tspan fill="#64748b">{_escaped(short[:split])}</tspan>{_escaped(short[split:])}</text>'
        f'<text x="{x + width - 12}" y="{top + _BASELINE}" text-anchor="end" font-size="11"'
        f' fill="#64748b">{reaction.how}</text></g>'
    )


def _module_length(name: str) -> int:
    """How much of a dotted name is packages and modules, before the first class or function."""
    length = 0
    for token in name.split(".")[:-1]:
        if token[:1].isupper() or token.startswith("<"):
            break
        length += len(token) + 1
    return length
