"""One lane that this process owns: what has come by it, what is under way, what is to be settled.

Touched on the bus's I/O loop alone.
"""

from collections import deque
from collections.abc import Callable, Sequence

from headwater.envelope import Envelope
from headwater.ledger import Change
from headwater.transport import Assigned, Lane, Received, Settlement
from headwater.window import Window

Told = Callable[[BaseException | None], None]
"""Is told that something was stored, or why it never will be."""

SMALLEST_CLAIM, LARGEST_CLAIM = 16, 4096
FIRST_WIDTH, NARROWEST, WIDEST = 32, 4, 256
"""Events of one lane that a process takes before any is settled: at first, at least, at most."""
BYTES = 2 << 20
"""Bytes of one lane that it takes, roughly."""
LONGEST = 4096
"""Events of one lane kept in mind, settled ones included, if they lie behind one that lasts."""
QUICK = 0.05
"""Seconds: a claim that is used up sooner is followed by a larger one."""


class Strand:
    """A lane, from when this process was given it.

    Attributes:
        lane, epoch: which one, and as which owner.
        window: what was taken from it and not settled.
        queue: what has come and was not begun.
        suspect: events up to here may have been under way when the owner before vanished.
        claim: events up to here may be begun; `claiming` while more is asked for.
        attempts: by event id, how many were counted already.
        leaving: whether it is to be given up when nothing is under way any more.
        gone: whether it belongs to somebody else.
        width: events of it that may be here at once: few large ones, many small ones.
        asked: events that the transport may still hand out.
        dirty: whether there is something to settle.
    """

    def __init__(self, assigned: Assigned, attempts: dict[str, int]) -> None:
        self.lane: Lane = assigned.lane
        self.epoch = assigned.epoch
        self.window = Window(assigned.position, assigned.done)
        self.queue: deque[Received] = deque()
        self.suspect = assigned.suspect
        self.claim = assigned.suspect
        self.claiming = 0
        self.attempts = attempts
        self.leaving = False
        self.gone = False
        self.width = FIRST_WIDTH
        self.asked = 0
        self._size = 0.0
        self.dirty = False
        self._claimed_at = 0.0
        self._ahead = SMALLEST_CLAIM
        self._publishes: list[tuple[Envelope, float | None]] = []
        self._changes: list[Change] = []
        self._told: list[Told] = []

    def weigh(self, received: Sequence[Received]) -> None:
        """See how large its events are, and how many of them may be here."""
        if received:
            mean = sum([len(each.envelope.data) for each in received]) / len(received)
            self._size = max(mean, self._size * 0.9)
            self.width = int(max(NARROWEST, min(WIDEST, BYTES / (self._size + 1))))
        self.asked -= len(received)

    def room(self) -> int:
        """How many more may be asked for; 0 until it is worth asking."""
        room = self.width - len(self.window) - self.asked
        if self.gone or self.leaving or self.window.span > LONGEST:
            return 0
        return room if room >= self.width // 4 else 0

    def want_claim(self, position: int, now: float) -> None:
        """Ask for the right to begin events up to `position`, and some more if they go quickly."""
        quick = now - self._claimed_at < QUICK
        self._ahead = min(self._ahead * 2, LARGEST_CLAIM) if quick else SMALLEST_CLAIM
        self._claimed_at = now
        self.claiming = position + self._ahead
        self.dirty = True

    def add(
        self,
        publishes: list[tuple[Envelope, float | None]],
        changes: list[Change],
        told: Told | None = None,
    ) -> None:
        """Put something into the next settlement."""
        self._publishes += publishes
        self._changes += changes
        if told is not None:
            self._told.append(told)
        self.dirty = True

    def settlement(self) -> tuple[Settlement, list[Told]]:
        """What there is to settle, and who wants to know."""
        position, done = self.window.position, self.window.done
        settlement = Settlement(
            self.lane, self.epoch, position, done, max(self.claiming, self.claim),
            self._publishes, self._changes,
        )  # fmt: skip
        told, self._told, self._publishes, self._changes = self._told, [], [], []
        self.dirty = False
        return settlement, told

    def put_back(self, settlement: Settlement, told: list[Told]) -> None:
        """It was not stored: it goes in front of the next one."""
        self._publishes = [*settlement.publishes, *self._publishes]
        self._changes = [*settlement.changes, *self._changes]
        self._told = [*told, *self._told]
        self.dirty = True

    def give_up(self, error: BaseException) -> None:
        """It belongs to somebody else: nothing that waits to be stored ever will be."""
        self.gone = True
        self.queue.clear()
        told, self._told = self._told, []
        for tell in told:
            tell(error)
