"""The window of a lane against a model that remembers everything."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.window import Window


class Model:
    """The same, in the plainest words: sets that only grow."""

    def __init__(self, position: int, done: frozenset[int]) -> None:
        self.start = position
        self.before = done
        self.end = position
        self.taken = set[int]()
        self.finished = set[int]()

    @property
    def unfinished(self) -> set[int]:
        """What is under way."""
        return self.taken - self.finished

    @property
    def position(self) -> int:
        """The last place with nothing unfinished, or not yet looked at, before it."""
        first = min(self.unfinished, default=1 << 62)
        reached = {place for place in self.finished if place < first}
        return max({self.start, min(self.end, first - 1)} | reached)

    @property
    def done(self) -> list[int]:
        """What is settled beyond that."""
        return sorted(place for place in self.finished | self.before if place > self.position)


class Life(NamedTuple):
    """A window's beginning, and what is done with it: batches, and which event ends next."""

    position: int
    done: frozenset[int]
    steps: list[tuple[list[int], int] | int]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Batches as lanes get them: rising positions, of which some had been done before."""
    position = draw(st.integers(0, 50))
    done = frozenset(draw(st.sets(st.integers(position + 2, position + 40), max_size=6)))
    steps = list[tuple[list[int], int] | int]()
    at = position
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.booleans()):
            gaps = draw(st.lists(st.integers(1, 4), max_size=5))
            taken = list[int]()
            for gap in gaps:
                at += gap
                if at not in done:
                    taken.append(at)
            at += draw(st.integers(0, 3))
            steps.append((taken, at))
        else:
            steps.append(draw(st.integers(0, 20)))
    return Life(position, done, steps)


def live(life: Life) -> list[tuple[Window, Model]]:
    """Lead window and model through the same life, and look at both after each step."""
    window, model = Window(life.position, life.done), Model(life.position, life.done)
    seen = list[int]()
    for step in life.steps:
        if isinstance(step, int):
            under_way = sorted(model.unfinished)
            if under_way:
                place = under_way[step % len(under_way)]
                window.finish(place)
                model.finished.add(place)
        else:
            for place in step[0]:
                window.take(place)
                model.taken.add(place)
            window.pass_over(step[1])
            model.end = max(model.end, step[1])
        assert window.position == model.position
        assert list(window.done) == model.done
        assert len(window) == len(model.unfinished)
        assert window.span >= len(window)
        seen.append(window.position)
    assert seen == sorted(seen), "a place in the log went back"
    return [(window, model)]


@given(lives())
def test_a_window_does_what_the_plainest_model_does(life: Life) -> None:
    """Position, gaps and length, after every step of any life."""
    live(life)


@given(lives())
def test_who_takes_over_gets_everything_unfinished_and_nothing_finished(life: Life) -> None:
    """What `position` and `done` say is all that the next owner knows."""
    ((window, model),) = live(life)
    heir = Window(window.position, frozenset(window.done))
    settled = {place for place in model.taken if place <= window.position or heir.was_done(place)}
    assert settled == model.finished


@given(lives())
def test_when_all_is_finished_the_window_is_at_its_end(life: Life) -> None:
    """Whatever the order was in which they ended."""
    ((window, model),) = live(life)
    for place in sorted(model.unfinished, reverse=True):
        window.finish(place)
    assert window.position == max(window.end, *model.taken, 0)
    assert all(place in life.done for place in window.done)
    assert len(window) == window.span == 0


def test_a_slow_event_holds_the_position_and_keeps_what_lies_behind_it() -> None:
    """The span is what a process has to remember because of it."""
    window = Window(10)
    for place in (11, 12, 14):
        window.take(place)
    window.pass_over(20)
    window.finish(12)
    window.finish(14)
    assert (window.position, list(window.done)) == (10, [12, 14])
    assert (len(window), window.span) == (1, 3)
    window.finish(11)
    assert (window.position, list(window.done)) == (20, [])


@pytest.mark.parametrize("end", [0, 5, 10])
def test_the_end_never_goes_back(end: int) -> None:
    """A late or empty batch changes nothing."""
    window = Window(10)
    window.pass_over(end)
    assert (window.position, window.end) == (10, 10)
