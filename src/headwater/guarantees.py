"""What a bus promises, in plain words."""

from headwater.capabilities import Capabilities

DAY = 86_400
_EVERY = ("client kill", "broker kill", "power cut", "node loss")

_ORDER = {
    "key": "events of a key are handled one at a time, in the order they were published",
    "none": "none",
}


def guarantees_of(can: Capabilities) -> str:
    """The promises of a bus on an engine with these capabilities."""
    lost = [event for event in _EVERY if event not in can.survives]
    own = "True, or " if can.transaction else ""
    lines = [
        f"{can.name}, {'shared by processes' if can.shared else 'in this process'}:",
        f"- a confirmed event survives: {', '.join(can.survives) or 'nothing'}",
        f"- it does not survive: {', '.join(lost)}",
        "- delivery: at least once; settled after the handler has succeeded",
        f"- effects: exactly once with transaction={own}a factory of transactions",
        f"- order: {_ORDER[can.ordered]}",
        f"- duplicates: {_duplicates(can)}",
        "- failures: tried again as retry= says, then kept as dead letters with the error",
        f"- delays: up to {_days(can.delay)}" if can.delay else "- delays: none",
        "- replay: of everything that the log keeps" if can.replay else "- replay: none",
        f"- size: an event has at most {can.max_bytes:,} bytes",
        "- storms: a chain of causes is stopped at max_depth, a story at max_story",
        *(f"- note: {note}" for note in can.notes),
    ]
    return "\n".join(lines) + "\n"


def _duplicates(can: Capabilities) -> str:
    if can.deduplicates:
        return f"an id is stored once {can.deduplicates}"
    return "an event that is published twice is stored twice"


def _days(seconds: float) -> str:
    return f"{seconds / DAY:,.0f} days" if seconds >= DAY else f"{seconds:g} s"
