"""What headwater promises of its speed, and whether a measured ratio keeps the promise."""

from typing import NamedTuple

from peers import Contender, Role
from workloads import Workload

# The least that a user pays: the bare way, by colour and number of handlers.
OVER_BARE = {("sync", 1): 6.0, ("sync", 10): 2.0, ("async", 1): 1.6, ("async", 10): 1.3}
TWICE = {"blinker", "pyee", "Django", "psygnal"}
CROWD_SLOWDOWN = 1.10
BYTES_PER_SUBSCRIPTION = 1024


class Target(NamedTuple):
    """A bound on the ratio of this row to the row `against`."""

    against: Role
    bound: float
    at_most: bool

    def met(self, ratio: float) -> bool:
        """Tell whether a measured ratio keeps within the bound."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound

    def __str__(self) -> str:
        words = "at most" if self.at_most else "at least"
        return f"{words} {self.bound:g} × {self.against}"


def target(work: Workload, contender: Contender) -> Target | None:
    """Return what this row must keep, or None for a row that is only shown.

    Twice as fast as a peer is a statement about the library, so it is asked where handlers cost
    nothing; where they work for a living, headwater must still be the faster one.
    """
    if contender.role == "headwater":
        return Target("bare", OVER_BARE[work.colour, work.count], at_most=True)
    if contender.role == "peer" and work.colour == "sync":
        twice = contender.name in TWICE and work.body == "empty"
        return Target("headwater", 2.0 if twice else 1.0, at_most=False)
    return None
