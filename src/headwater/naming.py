"""Durable names: what a subscription is called by this run of a program and by the next."""

import sys
from pathlib import Path
from typing import Any

from headwater.errors import InvalidHandler
from headwater.event import name_of, spec_of
from headwater.subscription import Subscription, What


def durable_name(subscription: Subscription) -> str:
    """``module.qualname``, if another run of the program will find the same.

    Raises:
        InvalidHandler: it will not.
    """
    name, where = subscription.handler.name, subscription.handler.where
    module, _, qualname = name.partition(".") if name.startswith("__main__.") else ("", "", name)
    function: Any = subscription.handler.function
    if "<" in name or not hasattr(function, "__qualname__"):
        raise InvalidHandler(
            f"{name} at {where}: on a transport a subscription needs a name that lasts, which"
            f" lambdas, partials, local functions and objects have not: give it one with name="
        )
    if module != "__main__":
        return name
    return f"{_main_name()}.{qualname}"


def _main_name() -> str:
    """What the script that runs is called."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    path = getattr(main, "__file__", None)
    return "main" if path is None else Path(path).stem


def names_on_the_wire(what: What) -> tuple[str, ...]:
    """The names on the wire that mean this, for whoever looks at the log without the program."""
    if isinstance(what, str):
        return (what,)
    return ("**",) if what is object else (name_of(what), *spec_of(what).aliases)
