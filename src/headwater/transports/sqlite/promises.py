"""What a log promises, by its settings."""

from headwater.transport import Capabilities
from headwater.transports.sqlite.settings import Settings

LONGEST_DELAY = 10 * 365 * 86_400.0
"""Seconds."""


def capabilities_of(settings: Settings) -> Capabilities:
    """What a log with these settings promises."""
    full = settings.synchronous == "full"
    kept = f"{settings.retain:g} s, and until it is settled" if settings.retain else "for ever"
    loss = "a power cut may take back the latest events, also some that were handled"
    return Capabilities(
        name="SQLite",
        persistent=True,
        shared=True,
        ordered="key",
        deduplicates=f"as long as the log keeps it: {kept}",
        delay=LONGEST_DELAY,
        replay=True,
        transaction=True,
        ledger=True,
        max_bytes=settings.max_bytes,
        survives=("client kill", "power cut") if full else ("client kill",),
        notes=() if full else (loss,),
    )
