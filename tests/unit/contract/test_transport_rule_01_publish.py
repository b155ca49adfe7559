"""Rule 1 on a transport, publish: done when the engine has confirmed it, else an error.

A receipt that nobody looks at is no way to lose an event in silence.
"""

import asyncio
import gc
import inspect
import logging
import sqlite3
import warnings
from pathlib import Path

import pytest
from tests.unit.contract.durable import PATIENCE, Log, Paid, Placed

from headwater import Bus, WouldDeadlock, failpoint
from headwater.errors import (
    BusClosed,
    InvalidEvent,
    LogBusy,
    PublishFailed,
    PublishUnknown,
    TooLarge,
    UnconfirmedPublish,
)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test."""
    return Log(tmp_path)


def fail_at(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk fail once, at a step of the writer."""
    left = [1]

    def reach(name: str) -> None:
        if name == point and left and left.pop():
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    monkeypatch.setattr(failpoint, "reach", reach)


def test_what_the_engine_refuses_is_publish_failed(log: Log) -> None:
    """With the event's id: nothing is stored under it, and it can be published again."""
    with log.bus(timeout=0.05) as bus:
        bus.publish(Placed(0))
        with log.busy(), pytest.raises(PublishFailed) as caught:
            bus.publish(Placed(1), id="e1")
        assert isinstance(caught.value, LogBusy)
        assert caught.value.event_id == "e1"
        assert "e1" not in log.ids()
        bus.publish(Placed(1), id=caught.value.event_id)
        assert log.ids().count("e1") == 1


def test_every_event_of_a_failed_commit_has_an_error_of_its_own(log: Log) -> None:
    """They share the cause, and each names its own id."""

    async def run() -> None:
        async with log.bus(timeout=0.05) as bus:
            await bus.publish(Placed(0))
            with log.busy():
                receipts = [bus.publish(Placed(n), id=f"e{n}") for n in range(1, 4)]
                for number, receipt in enumerate(receipts, 1):
                    with pytest.raises(PublishFailed) as caught:
                        await receipt
                    assert caught.value.event_id == f"e{number}"
                    assert receipt.done
                    assert len(receipt.errors) == 1

    asyncio.run(run())
    assert len(log.ids()) == 1


@pytest.mark.parametrize(("step", "there"), [("turn.written", False), ("turn.committed", True)])
def test_what_may_be_there_or_not_is_publish_unknown(
    log: Log, step: str, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    """Published again with the same id it is stored once, whichever it was."""
    bus = log.bus()
    bus.publish(Placed(0))
    fail_at(step, monkeypatch)
    with pytest.raises(PublishUnknown, match="the file failed") as caught:
        bus.publish(Placed(1))
    assert (caught.value.event_id in log.ids()) == there
    with pytest.raises(PublishFailed, match="until the bus is opened again") as refused:
        bus.publish(Placed(2))
    assert not isinstance(refused.value, PublishUnknown)
    bus.close()
    with bus:
        bus.publish(Placed(1), id=caught.value.event_id)
    assert log.ids().count(caught.value.event_id) == 1
    assert len(log.ids()) == 2


def test_an_event_that_is_too_large_never_leaves(log: Log) -> None:
    """The limit is said, and where it can be raised; one byte less is fine."""
    with log.bus(max_bytes=100) as bus:
        empty = len(b'""')
        bus.publish("order.placed", "x" * (100 - empty))
        with pytest.raises(TooLarge) as caught:
            bus.publish("order.placed", "x" * (101 - empty))
        assert "at most 100 bytes, got 101" in str(caught.value)
        assert "max_bytes in the URL" in str(caught.value)
        assert isinstance(caught.value, PublishFailed)
        assert caught.value.event_id
        with pytest.raises(TooLarge):
            bus.publish("order.placed", "x" * 60, headers={"h": "y" * 60})
    assert len(log.ids()) == 1


@pytest.mark.parametrize("noun", ["id", "key"])
def test_text_that_cannot_be_stored_is_refused(log: Log, noun: str) -> None:
    """Half of a surrogate pair has no bytes; it never leaves."""
    with log.bus() as bus:
        with pytest.raises(InvalidEvent, match=noun):
            bus.publish(Placed(), **{noun: "\ud800"})  # type: ignore[arg-type]
        bus.publish(Placed())
    assert len(log.ids()) == 1


def test_a_key_that_cannot_be_stored_is_refused_on_the_short_way_too(log: Log) -> None:
    """An event published for the second time takes it."""
    with log.bus() as bus:
        bus.publish(Paid("o1"))
        bus.publish(Paid("o2"))
        with pytest.raises(InvalidEvent, match="key"):
            bus.publish(Paid("\ud800"))
    assert len(log.ids()) == 2


# Receipts.


def test_a_dropped_receipt_warns_with_the_publishing_line(log: Log) -> None:
    """Also where publish is called by way of a helper of the user's."""

    async def run() -> None:
        async with log.bus() as bus:
            with log.busy(), pytest.warns(UnconfirmedPublish) as caught:  # noqa: PT031
                bus.publish(Placed(1), id="e1")
                frame = inspect.currentframe()
                gc.collect()
            assert frame is not None
            line = (
                inspect.getsource(run)
                .splitlines()
                .index('                bus.publish(Placed(1), id="e1")')
            )
            assert caught[0].filename == __file__
            assert caught[0].lineno == run.__code__.co_firstlineno + line
            assert "event e1" in str(caught[0].message)
            assert ".detach()" in str(caught[0].message)

    asyncio.run(run())
    assert log.ids() == ["e1"]


def test_in_sync_code_no_receipt_is_unconfirmed(log: Log) -> None:
    """Publish has waited, so there is nothing to warn of."""
    with warnings.catch_warnings(record=True) as caught, log.bus() as bus:
        warnings.simplefilter("always")
        bus.publish(Placed())
        gc.collect()
    assert caught == []


def test_a_detached_failure_is_logged_and_raised_at_the_end(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it, and yet it is not lost in silence."""

    async def publish(bus: Bus) -> None:
        bus.publish(Placed(1), id="e1").detach()
        with pytest.raises(LogBusy):  # Which comes after the first one's failure.
            await bus.publish(Placed(2))

    bus = log.bus(timeout=0.05)
    bus.publish(Placed(0))
    with log.busy(), caplog.at_level(logging.ERROR, "headwater"):
        asyncio.run(publish(bus))
    with pytest.raises(BaseExceptionGroup) as caught:
        bus.close()
    (error,) = caught.value.exceptions
    assert isinstance(error, PublishFailed)
    assert error.event_id == "e1"
    (record,) = [r for r in caplog.records if r.getMessage().startswith("publish_failed")]
    assert "id=e1" in record.getMessage()


def test_a_receipt_says_what_became_of_its_event(log: Log) -> None:
    """While it is on its way, and after."""

    async def run() -> None:
        async with log.bus() as bus:
            with log.busy():
                receipt = bus.publish(Placed(), id="e1")
                assert not receipt.done
                assert repr(receipt) == "<Receipt of e1, unconfirmed>"
                with pytest.raises(WouldDeadlock, match="await the receipt"):
                    receipt.wait()
            assert await receipt is receipt
            assert receipt.done
            assert receipt.errors == ()
            assert repr(receipt) == "<Receipt of e1, confirmed>"
            assert receipt.wait() is receipt
            assert await receipt is receipt

    asyncio.run(run())


def test_a_wait_may_have_an_end(log: Log) -> None:
    """The event may still be stored then."""

    async def publish(bus: Bus) -> object:
        return bus.publish(Placed(), id="e1")

    with log.bus() as bus:
        bus.publish(Placed())
        with log.busy():
            receipt = asyncio.run(publish(bus))
            with pytest.raises(TimeoutError, match=r"not confirmed within 0\.01 s"):
                receipt.wait(0.01)  # type: ignore[attr-defined]
        receipt.wait(PATIENCE)  # type: ignore[attr-defined]
    assert "e1" in log.ids()


def test_a_closed_bus_refuses(log: Log) -> None:
    """What was published before is stored."""
    bus = log.bus()
    bus.publish(Placed())
    bus.close()
    with pytest.raises(BusClosed):
        bus.publish(Placed())
    assert len(log.ids()) == 1
