"""The public names: pinned, few, and documented."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import headwater
from headwater import errors, records

SOURCE = Path(__file__).parents[2] / "src"

NAMES = [
    "Backoff",
    "Breaker",
    "Bus",
    "Context",
    "EventStorm",
    "Handlers",
    "HeadwaterError",
    "Overloaded",
    "PublishFailed",
    "PublishUnknown",
    "Rate",
    "Receipt",
    "Reject",
    "RemoteError",
    "RequestTimeout",
    "Resequence",
    "Retry",
    "RetryLater",
    "StreamOverflow",
    "Subscription",
    "Unsupported",
    "UsedAfterFork",
    "WouldDeadlock",
    "current",
    "errors",
    "event",
    "records",
]

METHODS = {
    "aclose",
    "capabilities",
    "capture",
    "close",
    "dead_letters",
    "forward",
    "guarantees",
    "idle",
    "include",
    "middleware",
    "muted",
    "observe",
    "on",
    "publish",
    "pump",
    "replay",
    "reply",
    "request",
    "run",
    "start",
    "stop",
    "stream",
    "subscribe",
    "topology",
    "transaction",
    "wait_for",
}


def test_the_package_has_exactly_these_names() -> None:
    """A new one is a decision: it is written here too, and there are never more than 30."""
    assert headwater.__all__ == NAMES
    assert sorted(NAMES) == NAMES
    assert len(NAMES) <= 30
    for name in NAMES:
        assert getattr(headwater, name) is not None


def test_a_star_import_brings_these_names_and_no_others() -> None:
    """In a notebook, say."""
    found: dict[str, object] = {}
    exec("from headwater import *", found)  # noqa: S102 -- what users write
    assert set(found) - {"__builtins__"} == set(NAMES)


def test_the_bus_has_exactly_these_methods() -> None:
    """Its own attributes begin with an underscore, all but its name."""
    bus = headwater.Bus()
    public = {name for name in dir(type(bus)) if not name.startswith("_")}
    assert public >= METHODS
    assert public - METHODS <= {"message_of_frame"}
    assert {name for name in vars(bus) if not name.startswith("_")} == {"name"}


def test_everything_public_is_documented() -> None:
    """Each name, and each method of it."""
    for name in NAMES:
        one = getattr(headwater, name)
        assert inspect.getdoc(one), name
        if not inspect.isclass(one):
            continue
        for attribute in dir(one):
            member = inspect.getattr_static(one, attribute)
            if attribute.startswith("_") or not (
                inspect.isroutine(member) or isinstance(member, property)
            ):
                continue
            if any(
                attribute in vars(base) for base in one.__mro__ if base.__module__ == "builtins"
            ):
                continue
            assert inspect.getdoc(getattr(one, attribute, member)), f"{name}.{attribute}"


def test_every_error_of_the_package_is_in_the_tree() -> None:
    """What is exported at the top is only a short way to it."""
    for name in NAMES:
        one = getattr(headwater, name)
        if inspect.isclass(one) and issubclass(one, BaseException):
            assert getattr(errors, name) is one


def test_records_are_values() -> None:
    """Frozen, equal by what they hold, shown with names, and made by keyword."""
    one = records.Handled(
        time=1.5, name="A", event_id="e1", subscription="s", attempt=1, seconds=0.5
    )
    same = records.Handled(
        seconds=0.5, attempt=1, subscription="s", event_id="e1", name="A", time=1.5
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != records.Unhandled(time=1.5, name="A", event_id="e1")
    assert repr(one) == (
        "Handled(time=1.5, name='A', event_id='e1', subscription='s', attempt=1, seconds=0.5)"
    )
    assert vars(one)["seconds"] == 0.5
    with pytest.raises(AttributeError, match="a record cannot be altered"):
        one.name = "B"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="a record cannot be altered"):
        delattr(one, "name")
    with pytest.raises(TypeError, match=r"Handled: expected time, name, .*; got time, name"):
        records.Handled(time=1.5, name="A")  # type: ignore[call-arg]


def test_records_know_their_kind() -> None:
    """Those about one handler carry the subscription; all carry time, name and id."""
    classes = [one for one in vars(records).values() if inspect.isclass(one)]
    kinds = [one for one in classes if issubclass(one, records.Record)]
    assert len(kinds) >= 14
    for kind in kinds:
        assert {"time", "name", "event_id"} <= set(kind._fields)
        if issubclass(kind, records.DeliveryRecord):
            assert {"subscription", "attempt"} <= set(kind._fields)


def test_the_version_is_the_distributions() -> None:
    """Said twice, and the same."""
    text = (SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{headwater.__version__}"\n' in text


def test_every_module_can_be_imported_alone() -> None:
    """In any order: nothing relies on another import having come first."""
    modules = sorted(
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for path in (SOURCE / "headwater").rglob("*.py")
        if "cli" not in path.parts
    )
    assert len(modules) > 30
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for known in [one for one in sys.modules if one.startswith('headwater')]:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, *modules],
        check=True,
        env={"PYTHONPATH": str(SOURCE)},
    )


def test_the_package_is_typed() -> None:
    """Type checkers look for the marker."""
    assert (Path(importlib.import_module("headwater").__path__[0]) / "py.typed").exists()
