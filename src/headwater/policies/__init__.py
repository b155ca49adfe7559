"""Policies: what is decided about a delivery besides calling its handler.

Each file holds one decision. What a user writes is a small frozen value (`Retry`, `Breaker`,
`Rate`, `Resequence`), checked when it is made, so that it can be shared by any number of
subscriptions. What runs is a state machine beside it, made from that value once per subscription.

Everything here is a function of state, time and input. Nothing reads a clock, draws a random
number, waits, locks, or starts a thread: whoever uses a policy brings the time and the draw, and
guards the state if several threads share it. The same history therefore always has the same
answer, and virtual time can drive all of it.

The states are imported from their own modules; this one has what users write.
"""

from headwater.policies.breaker import Breaker
from headwater.policies.rate import Rate
from headwater.policies.resequence import Resequence
from headwater.policies.retry import Backoff, Retry

__all__ = ["Backoff", "Breaker", "Rate", "Resequence", "Retry"]
