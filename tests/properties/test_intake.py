"""The way in to a subscription, driven as dispatch drives it: what comes in goes out once.

The driver below carries out effects as `headwater.dispatch` does, on a clock of its own, and keeps
for each item where it must be. It knows the rules of order, and nothing of how they are kept.
"""

import math
from collections import deque
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headwater.intake import Effect, Intake
from headwater.policies import Rate, Resequence
from headwater.policies.resequence import Gap

WAITS_FOR_TIME = ("rate", "resequence")
UNFINISHED = (*WAITS_FOR_TIME, "queued", "running", "resting")


class Item:
    """An event on its way in.

    Attributes:
        key: what it is ordered by, as its lane.
        sequence: its number, where events are resequenced.
        state: one of `UNFINISHED`, or ``new``, ``done`` or ``dropped``.
    """

    def __init__(self, arrival: int, key: str | None, sequence: int) -> None:
        self.arrival, self.key, self.sequence = arrival, key, sequence
        self.state = "new"

    def __repr__(self) -> str:
        return f"{self.arrival}:{self.key}:{self.sequence}:{self.state}"


class IntakeMachine(RuleBasedStateMachine):
    """Items arrive and take their way; time passes; any of them may be given up on anywhere."""

    @initialize(
        resequence=st.sampled_from(
            [None, Resequence("n", timeout=4, max_waiting=3), Resequence("n", timeout=0)]
        ),
        rate=st.sampled_from(
            [None, Rate(2, per=2, max_delayed=4), Rate(1, per=3), Rate(2, per=2, overflow="shed")]
        ),
        concurrency=st.sampled_from([None, 1, 2]),
    )
    def begin(
        self, resequence: Resequence | None, rate: Rate | None, concurrency: int | None
    ) -> None:
        self.intake: Intake[Item] = Intake(resequence, rate, concurrency)
        self.resequence, self.rate, self.concurrency = resequence, rate, concurrency
        self.now = 0.0
        self.items: list[Item] = []
        self.given_up: list[Item] = []
        self.started: list[Item] = []
        self.let_in: list[float] = []
        self.busy: set[float] = set()  # Moments at which timers were late.
        self.gaps: list[tuple[Item, Gap]] = []

    # What can happen.

    @rule(key=st.sampled_from([None, "a", "b"]), sequence=st.integers(1, 8))
    def arrive(self, key: str | None, sequence: int) -> None:
        if self.resequence is not None and key is None:
            key = ""  # What has no key shares one line.
        item = Item(len(self.items), key, sequence)
        self.items.append(item)
        self.carry_out(self.intake.arrive(item, key, sequence, self.now), by_time=True)
        assert item.state != "new"

    @rule(
        key=st.sampled_from([None, "a", "b"]),
        sequence=st.integers(1, 8),
        late=st.sampled_from([1.0, 10.0]),
    )
    def arrive_before_a_late_timer(self, key: str | None, sequence: int, late: float) -> None:
        """Threads are slow at times: what comes meanwhile overtakes nothing that is due."""
        self.now += late
        self.busy.add(self.now)
        self.arrive(key=key, sequence=sequence)
        self.time_passes(step=0.0)

    @rule(step=st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0]))
    def time_passes(self, step: float) -> None:
        """Every deadline on the way is met at its own time, as timers would."""
        until = self.now + step
        while (deadline := self.intake.deadline()) is not None and deadline <= until:
            self.meet(deadline)
        self.now = until
        assert self.intake.tick(self.now) == []  # Nothing is due between deadlines.

    @precondition(lambda self: self.of("running"))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.of("running"))), "done")

    @precondition(lambda self: self.of("running"))
    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.of("running")))
        item.state = "resting"
        self.carry_out(self.intake.rest(item))

    @precondition(lambda self: self.of("resting"))
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.of("resting")))
        item.state = "waking"
        self.carry_out(self.intake.wake(item))
        assert item.state in ("queued", "running")

    @precondition(lambda self: self.of(*UNFINISHED))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """The bus stops, or the subscription closes: it leaves from wherever it is."""
        item = data.draw(st.sampled_from(self.of(*UNFINISHED)))
        self.given_up.append(item)
        self.leave(item, "done")

    # What is always true.

    @invariant()
    def one_of_a_key_runs_and_no_more_than_may(self) -> None:
        running = self.of("running")
        keys = [item.key for item in running if item.key is not None]
        assert len(keys) == len(set(keys))
        assert self.concurrency is None or len(running) <= self.concurrency

    @invariant()
    def what_rests_keeps_its_key(self) -> None:
        running = {item.key for item in self.of("running") if item.key is not None}
        assert not running & {item.key for item in self.of("resting")}

    @invariant()
    def a_key_is_started_in_order(self) -> None:
        """By its numbers where they count, else as it came in; nothing is started twice."""
        assert len(self.started) == len(set(map(id, self.started)))
        for key in ("", "a", "b"):
            line = [item for item in self.started if item.key == key]
            order = [self.place(item) for item in line]
            assert order == sorted(set(order))

    @invariant()
    def a_deadline_is_set_while_something_waits_for_time(self) -> None:
        waiting = self.of(*WAITS_FOR_TIME)
        deadline = self.intake.deadline()
        if waiting:
            assert deadline is not None
            assert deadline > self.now or math.isclose(deadline, self.now)
        elif not self.given_up:
            assert deadline is None

    @invariant()
    def no_more_than_a_burst_is_let_in_at_one_moment(self) -> None:
        if self.rate is not None and self.now not in self.busy:
            assert self.let_in.count(self.now) <= self.rate.limit

    @invariant()
    def a_gap_goes_with_the_item_that_comes_after_it(self) -> None:
        for item, gap in self.gaps:
            assert (item.key, item.sequence) == (gap.key, gap.last_missing + 1)
            assert gap.first_missing <= gap.last_missing

    def teardown(self) -> None:
        """Nothing is lost: give it time and let everybody finish, and it has all come out."""
        if not hasattr(self, "intake"):
            return
        for _ in range(10 * len(self.items) + 10):
            for item in self.of("resting"):
                item.state = "waking"
                self.carry_out(self.intake.wake(item))
            for item in self.of("running"):
                self.leave(item, "done")
            deadline = self.intake.deadline()
            if deadline is not None:
                self.meet(max(deadline, self.now))
        assert self.of(*UNFINISHED, "new", "waking") == []
        assert self.intake.deadline() is None
        assert self.intake.lanes.idle

    # The driver.

    def carry_out(self, effects: Iterable[Effect[Item]], *, by_time: bool = False) -> None:
        """Do what is asked, and what follows from it, one after the other.

        Args:
            effects: what is asked.
            by_time: whether these are items coming in: what starts or queues has been let in.
        """
        todo = deque((effect, by_time) for effect in effects)
        while todo:
            (verb, item, detail), coming_in = todo.popleft()
            if verb == "gap":
                assert isinstance(detail, Gap)
                self.gaps.append((item, detail))
                continue
            if coming_in and verb in ("start", "queue"):
                self.let_in.append(self.now)
            if verb == "drop":
                assert self.may_drop(str(detail))
                assert item.state in ("new", *WAITS_FOR_TIME) or item in self.given_up
                item.state = "dropped"
                more = self.intake.leave(item, item.key)
            elif item in self.given_up:  # It comes too late: out again at once.
                more = self.intake.leave(item, item.key) if verb == "start" else []
            else:
                more = []
                self.take(item, verb, str(detail))
            todo.extend((effect, False) for effect in more)

    def take(self, item: Item, verb: str, detail: str) -> None:
        """One step of one item, which must be where it can take it."""
        if verb == "start":
            assert item.state in ("new", *WAITS_FOR_TIME, "queued", "waking")
            if item.state != "waking" and item not in self.started:
                self.started.append(item)
            item.state = "running"
        elif verb == "queue":
            assert item.state in ("new", *WAITS_FOR_TIME, "waking")
            item.state = "queued"
        else:
            assert verb == "defer"
            assert item.state == "new" or (item.state, detail) == ("resequence", "rate")
            item.state = detail

    def may_drop(self, reason: str) -> bool:
        if reason == "rate":
            return self.rate is not None
        return reason in ("older", "duplicate") and self.resequence is not None

    def leave(self, item: Item, state: str) -> None:
        item.state = state
        self.carry_out(self.intake.leave(item, item.key))

    def meet(self, deadline: float) -> None:
        """A timer: at a deadline there is something to do."""
        self.now = max(self.now, deadline)
        effects = self.intake.tick(self.now)
        assert effects
        self.carry_out(effects, by_time=True)

    def of(self, *states: str) -> list[Item]:
        return [item for item in self.items if item.state in states]

    def place(self, item: Item) -> int:
        return item.arrival if self.resequence is None else item.sequence


TestIntakeAgainstItsDriver = IntakeMachine.TestCase
TestIntakeAgainstItsDriver.settings = settings(max_examples=200, stateful_step_count=40)
