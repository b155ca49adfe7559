"""Lanes against a naive model that writes down who asked when, and works everything out anew."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headwater.lanes import Lanes


class Item:
    """Something that wants to run.

    Attributes:
        key: its key, or None.
        state: what the model thinks of it: it ``wants`` to run, ``runs`` or ``rests``.
        asked: when it last asked to run, by a clock that counts requests.
    """

    def __init__(self, number: int, key: str | None) -> None:
        self.number, self.key = number, key
        self.state = "wants"
        self.asked = 0

    def __repr__(self) -> str:
        return f"{self.number}:{self.key}:{self.state}"


class LanesMachine(RuleBasedStateMachine):
    """Items enter, run, rest, wake and leave, in any order and from any state.

    The model is one list of all that is inside, in the order of entering. An item is held up by
    an earlier one of its key, whatever that one does. Of those that are not, the ones that have
    asked longest ago run, as many as there may be.
    """

    @initialize(concurrency=st.sampled_from([None, 1, 2, 3]))
    def begin(self, concurrency: int | None) -> None:
        self.lanes: Lanes[Item] = Lanes(concurrency)
        self.concurrency = concurrency
        self.inside: list[Item] = []
        self.entered = 0
        self.requests = 0
        self.starts: list[Item] = []

    # What can happen.

    @rule(key=st.sampled_from([None, "a", "b", "c"]))
    def enter(self, key: str | None) -> None:
        item = Item(self.entered, key)
        self.entered += 1
        self.inside.append(item)
        if self.first_of_its_key(item):
            self.ask(item)
        started = self.lanes.enter(item, key)
        assert self.expected() == ([item] if started else [])

    @precondition(lambda self: self.of("runs"))
    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.of("runs")))
        item.state = "rests"
        assert self.lanes.rest(item) == self.expected()

    @precondition(lambda self: self.of("rests"))
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.of("rests")))
        item.state = "wants"
        self.ask(item)
        started = self.lanes.wake(item)
        assert self.expected() == ([item] if started else [])

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Whatever it was doing: it has finished, or was given up on."""
        item = data.draw(st.sampled_from(self.inside))
        held = [other for other in self.inside if not self.first_of_its_key(other)]
        self.inside.remove(item)
        for other in held:
            if other is not item and self.first_of_its_key(other):
                self.ask(other)
        assert self.lanes.leave(item, item.key) == self.expected()

    @precondition(lambda self: self.entered)
    @rule(key=st.sampled_from([None, "a", "b", "c"]))
    def somebody_leaves_who_never_came(self, key: str | None) -> None:
        """Given up on before it got here: nothing changes."""
        assert self.lanes.leave(Item(-1, key), key) == []

    # What is always true.

    @invariant()
    def one_of_a_key_runs_and_no_more_than_may(self) -> None:
        running = self.of("runs")
        keys = [item.key for item in running if item.key is not None]
        assert len(keys) == len(set(keys))
        assert self.concurrency is None or len(running) <= self.concurrency

    @invariant()
    def credit_is_never_left_lying(self) -> None:
        if self.of("wants") and any(map(self.first_of_its_key, self.of("wants"))):
            assert self.concurrency == len(self.of("runs"))

    @invariant()
    def a_key_is_started_in_the_order_of_entering(self) -> None:
        for key in "abc":
            numbers = [item.number for item in self.starts if item.key == key]
            assert numbers == sorted(numbers)

    @invariant()
    def nobody_blocks_itself_and_blockers_are_what_it_waits_for(self) -> None:
        for item in self.inside:
            blockers = self.lanes.blockers(item, item.key)
            assert item not in blockers
            if not self.first_of_its_key(item):
                assert blockers == (self.holder(item),)
            elif item.state == "wants":
                assert set(blockers) == set(self.of("runs"))
            else:
                assert blockers == ()

    @invariant()
    def those_behind_are_known_in_order(self) -> None:
        for key in "abc":
            line = [item for item in self.inside if item.key == key]
            assert self.lanes.behind(key) == tuple(line[1:])
        assert self.lanes.behind(None) == ()

    @invariant()
    def an_empty_house_is_idle(self) -> None:
        if not self.inside:
            assert self.lanes.idle
        if self.of("runs"):
            assert not self.lanes.idle

    def teardown(self) -> None:
        """Nothing is lost: when all have left, in any order of states, nothing is remembered."""
        while self.inside:
            item = self.inside[len(self.inside) // 2]
            self.inside.remove(item)
            self.lanes.leave(item, item.key)
        assert self.lanes.idle
        assert self.lanes._behind == {}
        assert self.lanes.enter(Item(-1, "a"), "a")

    # The model.

    def of(self, state: str) -> list[Item]:
        return [item for item in self.inside if item.state == state]

    def holder(self, item: Item) -> Item:
        """The first of all that have its key; without a key, itself."""
        if item.key is None:
            return item
        return next(other for other in self.inside if other.key == item.key)

    def first_of_its_key(self, item: Item) -> bool:
        return self.holder(item) is item

    def ask(self, item: Item) -> None:
        self.requests += 1
        item.asked = self.requests

    def expected(self) -> list[Item]:
        """Start what has to start now, and say what that is."""
        asking = [item for item in self.of("wants") if self.first_of_its_key(item)]
        asking.sort(key=lambda item: item.asked)
        free = len(asking)
        if self.concurrency is not None:
            free = self.concurrency - len(self.of("runs"))
        for item in asking[:free]:
            item.state = "runs"
            if item not in self.starts:
                self.starts.append(item)
        return asking[:free]


TestLanesAgainstTheirModel = LanesMachine.TestCase
TestLanesAgainstTheirModel.settings = settings(max_examples=200, stateful_step_count=40)
