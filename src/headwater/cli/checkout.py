"""Where the shop is: a wheel carries it beside this file, a checkout keeps it in ``examples/``."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from headwater import cli

_EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def load_shop() -> ModuleType:
    """Return the package `shop`, under the name that it has in a wheel."""
    if find_spec("headwater.cli.shop") is None:
        cli.__path__.append(str(_EXAMPLES))
    return import_module("headwater.cli.shop")
