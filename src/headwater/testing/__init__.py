"""Tools for tests of programs that use headwater."""

from headwater.testing.events import Events
from headwater.testing.virtual import VirtualRuntime

__all__ = ["Events", "VirtualRuntime"]
