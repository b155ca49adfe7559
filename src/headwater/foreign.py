"""A transaction in somebody else's database: the user's, by way of what the user gives.

What is given is a factory of context managers: a SQLAlchemy sessionmaker or ``engine.begin``, their
async sisters, a function that connects with sqlite3 or aiosqlite. All that is done with a
connection is written here as steps: generators that yield what has to be awaited where the factory
is async, and what is there already where it is not. So there is one way through a transaction, and
two ways to walk it: `run` and `run_async`.

SQLAlchemy is not imported unless one of its objects is given.
"""

import inspect
from asyncio import Lock
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from headwater.errors import InvalidHandler, InvalidOption, Unsupported

T = TypeVar("T")
Steps = Generator[Any, Any, T]
Factory = Callable[[], Any]
Rows = Sequence[Sequence[Any]]

KNOWN = (
    "a SQLAlchemy Session or Connection, or their async sisters, a sqlite3 or an aiosqlite"
    " connection"
)


def run(steps: Steps[T]) -> T:
    """Walk through steps in this thread.

    Raises:
        InvalidHandler: one of them has to be awaited.
    """
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            value = steps.send(value) if error is None else steps.throw(error)
            error = _refused(value) if inspect.isawaitable(value) else None
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(steps: Steps[T]) -> T:
    """Walk through steps, awaiting what has to be."""
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            value = steps.send(value) if error is None else steps.throw(error)
            error = None
            if inspect.isawaitable(value):
                try:
                    value = await value
                except BaseException as raised:
                    error = raised
    except StopIteration as end:
        result: T = end.value
        return result


def _refused(value: Any) -> InvalidHandler:
    close = getattr(value, "close", None)
    if inspect.iscoroutine(value) and close is not None:
        close()
    return InvalidHandler(
        f"{value!r:.80} has to be awaited, and a sync handler awaits nothing: make the handler"
        f" 'async def', or give it a factory of sync connections"
    )


def transact(
    factory: Factory, work: Callable[[Any], Steps[T]], turn: Lock | None = None
) -> Steps[T]:
    """Do some work in a transaction: committed when it is done, rolled back if it fails.

    Args:
        factory: gives a context manager, anew each time.
        work: gets what the context manager gives, in a transaction.
        turn: who runs on a loop takes it for a sync factory: another transaction would stop the
            loop that the one before needs to go on.
    """
    manager = factory()
    taken = turn is not None and not is_async(manager)
    if taken and turn is not None:
        yield turn.acquire()
    try:
        given = yield _enter(manager)
        try:
            yield from begin(given)
            result = yield from work(given)
            yield from commit(given)
        except BaseException as error:
            yield from _roll_back(given)
            yield from _leave(manager, given, error)
            raise
        yield from _leave(manager, given, None)
    finally:
        if taken and turn is not None:
            turn.release()
    return result


def is_async(manager: object) -> bool:
    """Whether a context manager is entered with ``async with``.

    Raises:
        InvalidOption: it is none.
    """
    if hasattr(manager, "__aenter__"):
        return True
    if hasattr(manager, "__enter__"):
        return False
    if inspect.iscoroutine(manager):
        manager.close()
    raise InvalidOption(
        f"transaction: expected a factory of context managers, each giving {KNOWN}, got one that"
        f" gives {type(manager).__qualname__}"
    )


def gives_async(factory: Any) -> bool:
    """Whether a factory is known to give async connections, as far as can be told uncalled."""
    owner: object = getattr(factory, "__self__", factory)
    return (
        type(owner).__module__.startswith("sqlalchemy.ext.asyncio")
        or inspect.iscoroutinefunction(factory)
        or inspect.isasyncgenfunction(inspect.unwrap(factory))
    )


def _enter(manager: Any) -> Any:
    return manager.__aenter__() if is_async(manager) else manager.__enter__()


def _leave(manager: Any, given: Any, error: BaseException | None) -> Steps[None]:
    details = (None, None, None) if error is None else (type(error), error, error.__traceback__)
    leave = manager.__aexit__ if is_async(manager) else manager.__exit__
    yield leave(*details)
    if manager is given and _kind(given) == "sqlite3":
        given.close()  # The one connection whose block does not end it.


# What a connection is told.


def execute(given: Any, statement: str, values: Mapping[str, Any] | None = None) -> Steps[Rows]:
    """Run one statement, whose parameters are written ``:name``."""
    if not _kind(given).startswith("sqlalchemy"):
        cursor = yield given.execute(statement, values or {})
        rows: Rows = yield cursor.fetchall()
        return rows
    from sqlalchemy import text  # noqa: PLC0415  # Whoever gives its objects has it.

    result = yield given.execute(text(statement), values or {})
    return result.fetchall() if result.returns_rows else []


def begin(given: Any) -> Steps[None]:
    """See to it that a transaction is open, and that nobody else writes if that is SQLite's way."""
    if not _kind(given).startswith("sqlalchemy") and not given.in_transaction:
        yield given.execute("BEGIN IMMEDIATE")


def commit(given: Any) -> Steps[None]:
    """Commit, whatever the end of the block would do."""
    if _autocommits(given):
        yield given.execute("COMMIT")
    else:
        yield given.commit()


def _roll_back(given: Any) -> Steps[None]:
    with suppress(Exception):  # What made it fail is what is told.
        if not _autocommits(given):
            yield given.rollback()
        elif given.in_transaction:
            yield given.execute("ROLLBACK")


def check_open(given: Any) -> None:
    """Refuse a connection that would commit what is written through it at once.

    Raises:
        Unsupported: it is in autocommit, and in no transaction.
        InvalidOption: it is no connection that is known.
    """
    if _kind(given).startswith("sqlalchemy"):
        commits = _sqlalchemy_autocommits(given)
    else:
        alone = _autocommits(given) or given.isolation_level is None
        commits = alone and not given.in_transaction
    if commits:
        raise Unsupported(
            "publish: transaction: the connection is in autocommit: the event would be stored even"
            " if you roll back; begin a transaction on it first"
        )


def dialect(given: Any) -> str:
    """``sqlite``, ``postgresql``, or what SQLAlchemy calls it."""
    if not _kind(given).startswith("sqlalchemy"):
        return "sqlite"
    bind = given if hasattr(given, "dialect") else given.get_bind()
    return str(bind.dialect.name)


def is_awaited(given: Any) -> bool:
    """Whether what a connection does has to be awaited.

    Raises:
        InvalidOption: it is no connection that is known.
    """
    return _kind(given) in ("sqlalchemy.ext.asyncio", "aiosqlite")


def file_of(given: Any) -> Steps[str]:
    """The file of an SQLite database; empty if it has none, or is no SQLite database."""
    if dialect(given) != "sqlite":
        return ""
    for row in (yield from execute(given, "PRAGMA database_list")):
        if row[1] == "main":
            return str(row[2] or "")
    return ""


def same_file(one: str, other: str) -> bool:
    """Whether two paths mean one file."""
    with suppress(OSError):
        return bool(one and other) and Path(one).samefile(other)
    return False


def _kind(given: object) -> str:
    """The library that a connection comes from.

    Raises:
        InvalidOption: none that is known.
    """
    for cls in type(given).__mro__:
        module = cls.__module__
        if module.startswith("sqlalchemy."):
            inner = module.startswith("sqlalchemy.ext.asyncio")
            return "sqlalchemy.ext.asyncio" if inner else "sqlalchemy"
        if module == "sqlite3" or module.partition(".")[0] == "aiosqlite":
            return module.partition(".")[0]
    raise InvalidOption(f"transaction: expected {KNOWN}, got {type(given).__qualname__}")


def _autocommits(given: Any) -> bool:
    """Whether it is SQLite's connection of Python 3.12 or newer with ``autocommit=True``."""
    return getattr(given, "autocommit", None) is True


def _sqlalchemy_autocommits(given: Any) -> bool:
    connection = getattr(given, "sync_connection", given)
    if not hasattr(connection, "get_execution_options"):
        return False  # A Session opens its connection when it needs one.
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return str(level) == "AUTOCOMMIT"
