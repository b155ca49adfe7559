"""What a command works on: a log by its URL or file, or the bus of a program."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from headwater import Bus
from headwater.cli.failure import Failure, usage
from headwater.deadletters import DeadLetters
from headwater.durable import Durable
from headwater.operations import Operations, operations_of
from headwater.transport import Transport

T = TypeVar("T")

NAME = "headwater"
"""What the command line is called among the members of a log."""

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="A log, sqlite:///shop.db or its file, or a program's MODULE:BUS."
    ),
]
BusArgument = Annotated[
    str, typer.Argument(metavar="MODULE:BUS", help="The bus, such as shop.app:bus.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Target:
    """A bus that is there to be looked at, and its engine.

    Attributes:
        bus: the program's, or one that was made for the URL.
        is_program: whether it is a program's, with handlers and classes.
    """

    def __init__(self, bus: Bus, label: str, *, is_program: bool) -> None:
        self.bus = bus
        self.label = label
        self.is_program = is_program

    @property
    def durable(self) -> Durable:
        """The engine room of the bus."""
        return durable_of(self.bus, self.label)

    @property
    def transport(self) -> Transport:
        """The engine."""
        return self.durable.transport

    def call(self, work: Callable[[Transport], Coroutine[Any, Any, T]]) -> T:
        """Run something with the engine, which is opened first."""
        durable = self.durable
        durable.open()
        return durable.call(work(durable.transport))

    def ask(self, work: Callable[[Operations], Coroutine[Any, Any, T]]) -> T:
        """Run an operation of the engine."""
        operations = operations_of(self.transport, self.transport.capabilities.name)
        return self.call(lambda _: work(operations))

    @property
    def letters(self) -> DeadLetters:
        """The dead letters, with the engine open."""
        self.durable.open()
        return self.durable.dead_letters


def durable_of(bus: Bus, label: str) -> Durable:
    """The engine room of a bus.

    Raises:
        Failure: it is a direct bus.
    """
    durable = bus._durable  # pyright: ignore[reportPrivateUsage]
    if durable is None:
        raise usage(
            f"{label} is a direct bus: nothing of it is stored or shared with other processes",
            "give it a URL: Bus('sqlite:///shop.db', name='shop')",
        )
    return durable


def names_of(bus: Bus) -> list[str]:
    """The durable names of a bus's subscriptions, in order of registration."""
    return list(dict.fromkeys(reaction.handler for reaction in bus.topology().reactions))


@contextlib.contextmanager
def opened(text: str, *, may_make: bool = False) -> Generator[Target]:
    """The target that a text names, as long as the block lasts.

    Args:
        text: a URL, the path of a file, or MODULE:BUS.
        may_make: whether a log that is not there yet is made.

    Raises:
        Failure: there is no such thing.
    """
    target = _find(text)
    if not may_make:
        _check_there(target)
    try:
        yield target
    finally:
        target.bus.stop()


def _find(text: str) -> Target:
    if "://" in text:
        return Target(Bus(text, name=NAME), text, is_program=False)
    if Path(text).exists() or "/" in text or text.endswith((".db", ".sqlite")):
        url = "sqlite:///" + quote(text)
        return Target(Bus(url, name=NAME), text, is_program=False)
    if ":" not in text:
        raise usage(
            f"expected a URL, a file or MODULE:BUS, got {text!r}",
            f"sqlite:///{text}.db for a log, {text}:bus for a bus of a program",
        )
    return Target(load_bus(text), text, is_program=True)


def _check_there(target: Target) -> None:
    settings = getattr(target.transport, "settings", None)
    path: str | None = getattr(settings, "path", None)
    if path is not None and not os.path.lexists(path) and not Path(f"{path}-wal").exists():
        shown = os.path.relpath(path)
        raise Failure(
            f"there is no log at {shown if len(shown) < len(path) else path}",
            "'headwater ensure MODULE:BUS' makes it, and so does a bus when it starts",
        )


def load_bus(text: str) -> Bus:
    """The bus that ``MODULE:BUS`` names; a function that makes it is called.

    Raises:
        Failure: there is none.
    """
    found = load(text, "MODULE:BUS")
    if not isinstance(found, Bus) and callable(found):
        found = found()
    if not isinstance(found, Bus):
        raise usage(f"{text}: expected a Bus, got {type(found).__qualname__}")
    return found


def load(text: str, form: str) -> Any:
    """What ``MODULE:NAME`` names; modules are looked for in the current folder first.

    Raises:
        Failure: there is no such module or name, or importing it failed.
    """
    module_name, colon, name = text.partition(":")
    if not colon or not module_name or not name:
        raise usage(f"expected {form}, got {text!r}")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise usage(f"{text}: expected a module, got a file", f"{dotted}:{name}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _import(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            raise usage(f"{text}: the module {module_name} has no {name!r}{_others(found)}")
        found = getattr(found, part)
    return found


def _import(name: str) -> Any:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise usage(
                f"there is no module {name!r} here or on the Python path",
                "run it in the folder that holds the module, or install the package",
            ) from error
        raise _broken(name, error) from error
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> Failure:
    """The module is there, and fails: said with the line of it that did."""
    where, traceback = "", error.__traceback__
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if not path.startswith("<") and Path(path).parent.name != "importlib":
            where = f" ({Path(path).name}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError):
        where = f" ({Path(error.filename or '').name}:{error.lineno})"
    text = error.msg if isinstance(error, SyntaxError) else error
    return Failure(f"importing {name} failed: {type(error).__name__}: {text}{where}")


def _others(module: object) -> str:
    members: dict[str, object] = dict(vars(module))
    names = [name for name, value in members.items() if isinstance(value, Bus)]
    return f"; its buses are: {', '.join(names)}" if names else ""
