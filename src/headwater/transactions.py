"""Transactions of the engine, lent to code: what `bus.transaction` and handlers are given."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from headwater.envelope import Envelope
from headwater.errors import WouldDeadlock
from headwater.runtime import Future, running_loop
from headwater.transport import Loan

Borrow = Callable[[Callable[[Loan | BaseException], None]], None]


class Transaction:
    """An open transaction: statements run through it, and events may be published in it.

    It is what ``context.transaction`` is for a handler with ``transaction=True``, and what
    ``with bus.transaction() as transaction`` gives. Other attributes are those of the engine's
    connection: ``execute``, ``executemany``, ``cursor`` on SQLite.
    """

    def __init__(self, loan: Loan) -> None:
        self._loan = loan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loan.connection, name)

    def publish(self, envelope: Envelope, due: float | None) -> None:
        """For ``bus.publish(event, transaction=...)``."""
        self._loan.publish(envelope, due)


current_transaction: ContextVar[Transaction | None] = ContextVar(
    "headwater_transaction", default=None
)
"""The transaction that the running code holds."""


class TransactionBlock:
    """A transaction of the log around a block of code: ``with`` in sync code, or ``async with``.

    What is done in it is committed at the end of the block, and undone if the block raises. It
    holds the log's write lock: keep it short.
    """

    def __init__(self, borrow: Borrow) -> None:
        self._borrow = borrow
        self._loan: Loan | None = None
        self._token: Token[Transaction | None] | None = None

    def __enter__(self) -> Transaction:
        if running_loop() is not None:
            raise WouldDeadlock(
                "a loop runs in this thread, and the transaction may be held by a handler that"
                " runs on it: use 'async with bus.transaction()'"
            )
        self._refuse_second()
        granted: Future[Loan | BaseException] = Future()
        self._borrow(granted.set_result)
        return self._begin(granted.result())

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        done: Future[BaseException | None] = Future()
        self._end(kind is None, done.set_result)
        error = done.result()
        if error is not None and kind is None:
            raise error

    async def __aenter__(self) -> Transaction:
        self._refuse_second()
        granted: Future[Loan | BaseException] = Future()
        self._borrow(granted.set_result)
        try:
            loan = await asyncio.shield(asyncio.wrap_future(granted))
        except asyncio.CancelledError:
            granted.add_done_callback(_hand_back)  # The engine waits for whoever it lends to.
            raise
        return self._begin(loan)

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        done: Future[BaseException | None] = Future()
        self._end(kind is None, done.set_result)
        error = await asyncio.shield(asyncio.wrap_future(done))
        if error is not None and kind is None:
            raise error

    def _refuse_second(self) -> None:
        if current_transaction.get() is not None:
            raise WouldDeadlock(
                "this code holds a transaction of the log already, and a second one would wait"
                " for it"
            )

    def _begin(self, loan: Loan | BaseException) -> Transaction:
        if isinstance(loan, BaseException):
            raise loan
        self._loan = loan
        transaction = Transaction(loan)
        self._token = current_transaction.set(transaction)
        return transaction

    def _end(self, commit: bool, done: Callable[[BaseException | None], None]) -> None:  # noqa: FBT001
        assert self._loan is not None
        assert self._token is not None
        current_transaction.reset(self._token)
        self._loan.give_back(commit=commit, done=done)


def _hand_back(granted: "Future[Loan | BaseException]") -> None:
    """Nobody is there any more to use it."""
    loan = granted.result()
    if not isinstance(loan, BaseException):
        loan.give_back(commit=False, done=lambda error: None)
