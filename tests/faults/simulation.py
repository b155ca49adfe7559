"""A bus that is never wrong, played with dice: what the checker must call clean.

`simulate` tells a run in which everything happens that the contract allows. Publishers are killed,
told nothing, or refused, and publish again, in time or after a later event of the same key. Four
handlers share lanes; keys go side by side; their processes are killed after an effect and before it
is settled, so events come again, under a higher fence and in another process. Some events are given
up on, and some of those sent back. A handler publishes events of its own in its transaction. A
process that was only stopped acts once more, where nobody promised that it would not.
"""

import zlib
from dataclasses import dataclass, field
from random import Random

from tests.faults.checker import Promise, Rules
from tests.faults.history import (
    DeadLetter,
    Effect,
    History,
    Part,
    Phase,
    Publish,
    Record,
    Stored,
    digest,
)

LANES = 4

PROMISES = {
    "stock": Promise(exactly_once=True, names=frozenset({"placed"})),
    "mail": Promise(),
    "audit": Promise(exactly_once=True, names=frozenset({"paid"})),
    "search": Promise(ordered=False, fenced=False),
}


@dataclass(frozen=True)
class Run:
    """A history, and the rules that it keeps."""

    history: History
    rules: Rules


def simulate(seed: int, publishes: int = 40) -> Run:
    """Tell the run of `seed`, with about as many events as `publishes` says."""
    return _Simulation(Random(seed)).run(publishes)


@dataclass
class _Stream:
    """A lane, as one subscription consumes it."""

    handler: str
    lane: int
    process: str
    fence: int = 1
    settled: set[str] = field(default_factory=set[str])
    done: dict[str, int] = field(default_factory=dict[str, int])  # Not settled; with its attempt.
    attempts: dict[str, int] = field(default_factory=dict[str, int])


class _Simulation:
    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.now = 0
        self.kills = 0
        self.records: list[Record] = []
        self.log: dict[str, Publish] = {}
        self.lanes: dict[str, int] = {}
        self.numbers: dict[str | None, int] = {}
        self.again: list[Publish] = []  # Unknown to their publishers, who will try again later.
        self.back: list[tuple[_Stream, Publish]] = []  # Dead letters to be sent back.
        self.stopped: list[Effect] = []  # What stopped processes will do when they go on.
        self.streams = [
            _Stream(handler, n, f"worker-{n % 2}") for handler in PROMISES for n in range(LANES)
        ]

    def run(self, publishes: int) -> Run:
        for number in range(publishes):
            key = self.dice.choice(["a", "b", "c", "d", "e", None])
            self.publish(f"e{number}", key)
            while self.chance(0.6):
                self.handle(self.dice.choice(self.streams))
            if self.chance(0.06):
                self.kill(self.dice.choice(self.streams).process)
            if self.again and self.chance(0.3):
                self.attempt(self.again.pop(), certain=True)
        drained = self.chance(0.8)
        while self.send_back() or (drained and self.handle_all()):
            pass
        self.finish(drained=drained)
        return Run(History.of(self.shuffled()), Rules(PROMISES, drained=drained))

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def tick(self) -> int:
        self.now += self.dice.randint(10, 1_000)
        return self.now

    def shuffled(self) -> list[Record]:
        """The records as they come from many files, in no order at all."""
        return self.dice.sample(self.records, len(self.records))

    # Publishing

    def publish(self, event: str, key: str | None) -> None:
        self.attempt(self.invoked(event, key, "placed", f"web-{key}"), certain=False)

    def invoked(self, event: str, key: str | None, name: str, process: str) -> Publish:
        """The first record of a new event, not yet written."""
        number = self.numbers[key] = self.numbers.get(key, 0) + 1
        payload = digest({"event": event, "n": self.dice.random()})
        return Publish("invoke", event, key, number, payload, process, 0, name)

    def attempt(self, publish: Publish, *, certain: bool) -> None:
        """One attempt, all that may become of it, and what its publisher does then."""
        self.write(publish, "invoke")
        outcome = "ok" if certain or self.chance(0.75) else self.dice.choice(["failed", "unknown"])
        if outcome == "ok" or (outcome == "unknown" and self.chance(0.5)):
            self.store(publish)
        if self.chance(0.3):
            self.handle(self.dice.choice(self.streams))
        if outcome == "ok":
            self.write(publish, "ok")
        elif outcome == "failed":
            self.write(publish, "failed")
        elif self.chance(0.7):
            self.write(publish, "unknown")  # Else its process was killed, and never told.
        if outcome != "ok" and self.chance(0.4):
            if self.chance(0.5):
                self.attempt(publish, certain=True)
            else:
                self.again.append(publish)

    def write(self, publish: Publish, phase: Phase) -> None:
        told = (publish.event, publish.key, publish.key_seq, publish.digest, publish.process)
        self.records.append(Publish(phase, *told, self.tick(), publish.name))

    def store(self, publish: Publish) -> None:
        """Append to the log what is not there yet; without a key, lanes take turns."""
        if publish.event not in self.log:
            place = zlib.crc32(publish.key.encode()) if publish.key else len(self.log)
            self.log[publish.event] = publish
            self.lanes[publish.event] = place % LANES

    # Consuming

    def handle(self, stream: _Stream) -> bool:
        """Let a handler act on an event that waits in its lane; False if none does."""
        ready = self.ready(stream)
        if not ready:
            return False
        event = self.dice.choice(ready[:3])
        attempt = stream.attempts[event.event] = stream.attempts.get(event.event, 0) + 1
        acted_before = attempt > 1
        if not acted_before and self.chance(0.05):
            self.bury(stream, event)
            return True
        self.act(stream, event, attempt)
        if PROMISES[stream.handler].exactly_once:
            stream.settled.add(event.event)
        elif acted_before or not self.chance(0.05):  # Else it failed after its effect.
            stream.done[event.event] = attempt
        if self.chance(0.4):
            stream.settled.update(stream.done)
        return True

    def handle_all(self) -> bool:
        """One event for each stream; False if none waits anywhere."""
        return sum(self.handle(stream) for stream in self.streams) > 0

    def ready(self, stream: _Stream) -> list[Publish]:
        """What waits in the lane, for each key the earliest; a retry holds its key."""
        held: set[str | None] = set()
        ready: list[Publish] = []
        for event, publish in self.log.items():
            behind = publish.key is not None and publish.key in held
            if self.waits(stream, publish) and event not in stream.done and not behind:
                ready.append(publish)
                held.add(publish.key)
        return ready

    def waits(self, stream: _Stream, publish: Publish) -> bool:
        here = self.lanes[publish.event] == stream.lane
        wanted = PROMISES[stream.handler].wants(publish.name)
        return here and wanted and publish.event not in stream.settled

    def act(self, stream: _Stream, event: Publish, attempt: int) -> None:
        self.records.append(self.effect(stream, event, attempt))
        if stream.handler == "stock" and event.key is not None and self.chance(0.4):
            paid = self.invoked(f"{event.event}-paid", f"{event.key}-paid", "paid", stream.process)
            self.write(paid, "invoke")
            self.store(paid)
            self.records += Part(event.event, "row"), Part(event.event, "event")

    def effect(self, stream: _Stream, event: Publish, attempt: int) -> Effect:
        seen = (event.key, event.key_seq, event.digest, attempt, stream.process)
        return Effect(
            event.event, stream.handler, *seen, self.tick(), stream.lane, stream.fence, event.topic
        )

    def bury(self, stream: _Stream, event: Publish) -> None:
        """Give up on an event, for good or until somebody sends it back."""
        stream.settled.add(event.event)
        retried = self.chance(0.3)
        self.records.append(DeadLetter(event.event, stream.handler, retried))
        if retried:
            self.back.append((stream, event))

    def send_back(self) -> bool:
        """Let handlers act on the dead letters that somebody retries; False if there are none."""
        back, self.back = self.back, []
        for stream, event in back:
            self.act(stream, event, attempt=2)
        return bool(back)

    def kill(self, process: str) -> None:
        """End or stop a process: others take over its lanes and begin at what is not settled."""
        self.kills += 1
        for stream in self.streams:
            if stream.process != process:
                continue
            ready = self.ready(stream)
            if ready and not PROMISES[stream.handler].fenced and self.chance(0.5):
                self.stopped.append(self.effect(stream, ready[0], 1))
            stream.process = f"worker-{self.dice.randrange(2)}-{self.kills}"
            stream.fence += 1
            stream.done.clear()

    def finish(self, *, drained: bool) -> None:
        """Stopped processes go on, and somebody looks into the store."""
        for late in self.stopped:
            told = (late.event, late.handler, late.key, late.key_seq, late.digest, late.attempt)
            self.records.append(Effect(*told, late.process, self.tick(), late.lane, late.fence))
        for stream in self.streams:
            if drained:
                stream.settled.update(stream.done)
            self.records += [
                Stored(event, stream.handler)
                for event, publish in self.log.items()
                if self.waits(stream, publish)
            ]
