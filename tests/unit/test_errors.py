"""Errors: one tree, drawn in its module, whose texts say what to do."""

import inspect
import pickle
import re
from datetime import timedelta

import pytest

from headwater import errors
from headwater.errors import (
    BreakerOpen,
    ControlFlow,
    EventStorm,
    HandlerTimeout,
    HeadwaterError,
    OutOfSequence,
    Overloaded,
    Reject,
    RemoteError,
    RetryLater,
    StreamOverflow,
    WouldDeadlock,
)

EVERY = {
    name: one
    for name, one in vars(errors).items()
    if inspect.isclass(one)
    and issubclass(one, BaseException)
    and not issubclass(one, Warning)
    and one.__module__ == errors.__name__
}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every class stands in it, below its base, with the built-in that it is as well."""
    drawn = re.findall(
        r"^[\s│├└─]*(\w+)(?: \((\w+)\))?(?:  .*)?$", errors.__doc__ or "", re.MULTILINE
    )
    tree = {name: also for name, also in drawn if name in EVERY}
    assert list(tree) == [name for name in EVERY if name in tree]
    assert set(tree) == set(EVERY)
    for name, also in tree.items():
        bases = [base.__name__ for base in EVERY[name].__bases__]
        if also:
            assert bases == ["HeadwaterError", also], name


def test_every_error_has_one_of_two_roots() -> None:
    """Errors, and what a handler raises to say how its event is to be settled."""
    for one in EVERY.values():
        assert issubclass(one, HeadwaterError) != issubclass(one, ControlFlow)
    assert issubclass(RetryLater, ControlFlow)
    assert issubclass(Reject, ControlFlow)


def test_the_only_warning_is_a_warning() -> None:
    """It stands in no tree of errors, and can be filtered like every other one."""
    warnings = [
        one
        for one in vars(errors).values()
        if inspect.isclass(one) and issubclass(one, Warning) and one.__module__ == errors.__name__
    ]
    assert warnings == [errors.UnconfirmedPublish]
    assert issubclass(errors.UnconfirmedPublish, UserWarning)


def test_every_error_is_described() -> None:
    """A docstring each, of its own."""
    texts = [one.__doc__ for one in EVERY.values()]
    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_errors_can_be_caught_by_what_python_calls_them() -> None:
    """Timeouts are TimeoutErrors, and so on."""
    assert issubclass(HandlerTimeout, TimeoutError)
    assert issubclass(errors.RequestTimeout, TimeoutError)
    assert issubclass(errors.NoReplier, LookupError)
    assert issubclass(errors.UnknownTransport, errors.Unsupported)
    for name in ("WouldDeadlock", "BusClosed", "UsedAfterFork", "Overloaded", "EventStorm"):
        assert issubclass(EVERY[name], RuntimeError)


def test_fields_are_typed_and_the_text_is_made_from_them() -> None:
    """What failed, with numbers, and the fix."""
    overloaded = Overloaded(10_000, 10_000)
    assert (overloaded.pending, overloaded.limit) == (10_000, 10_000)
    assert "10000 deliveries are unfinished and max_pending is 10000" in str(overloaded)
    assert "await the receipts" in str(overloaded)
    timeout = HandlerTimeout("shop.notify", 1.5)
    assert timeout.seconds == 1.5
    assert str(timeout) == "shop.notify ran longer than its timeout of 1.5 s"
    died = errors.ProcessDied("shop:ship", 3)
    assert died.attempts == 3
    assert str(died) == "shop:ship: the process ended 3 times while it ran"
    assert errors.PublishFailed("text", "e1").event_id == "e1"
    replay = errors.ReplayFailed("text", 7, 3)
    assert (replay.position, replay.handled) == (7, 3)
    overflow = StreamOverflow(256)
    assert overflow.buffer == 256
    assert 'overflow="drop_oldest"' in str(overflow)
    storm = EventStorm("refused", "e1", ("A", "B", "A"))
    assert (storm.correlation_id, storm.path) == ("e1", ("A", "B", "A"))
    assert RemoteError("failed", "LookupError").kind == "LookupError"
    assert OutOfSequence("old", "older").reason == "older"


@pytest.mark.parametrize(
    ("delay", "seconds"), [(0, 0.0), (1.5, 1.5), (timedelta(minutes=1), 60.0)], ids=repr
)
def test_later_is_a_duration(delay: float | timedelta, seconds: float) -> None:
    """Seconds or a timedelta."""
    assert RetryLater(delay).delay == seconds
    assert str(RetryLater(delay)) == f"again in {seconds:g} s"


def test_a_rejection_has_a_reason() -> None:
    """For people."""
    assert Reject("no such item").reason == "no such item"
    assert str(Reject("no such item")) == "no such item"


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidEvent("text"),
        Overloaded(3, 2),
        EventStorm("text", "e1", ("A", "B")),
        HandlerTimeout("handle", 1.5),
        OutOfSequence("text", "older"),
        StreamOverflow(7),
        RemoteError("text", "LookupError"),
        errors.PublishUnknown("text", "e1"),
        errors.TooLarge("text", "e1"),
        errors.ProcessDied("shop:ship", 3),
        errors.ReplayFailed("text", 7, 3),
        RetryLater(1.5),
        Reject("text"),
        BreakerOpen("text"),
        WouldDeadlock("text"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling(error: Exception) -> None:
    """A handler in another process raises it here, with its fields and its text."""
    error.add_note("while something handled it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
