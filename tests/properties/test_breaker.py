"""The breaker against a naive model that remembers every call by itself."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headwater.policies import Breaker
from headwater.policies.breaker import BreakerState


class Call:
    """One call: its period for the breaker; for the model, whether it is still of interest."""

    def __init__(self, period: int) -> None:
        self.period = period
        self.late = False


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin and end side by side and in any order, while time goes on.

    The model has no periods: when it changes state, it marks every call that runs as late. It is
    open if there is a time of opening, and half-open if there is a probe as well.
    """

    @initialize(failures=st.integers(1, 3), cooldown=st.sampled_from([0.0, 1.0, 7.5]))
    def begin(self, failures: int, cooldown: float) -> None:
        self.failures, self.cooldown = failures, cooldown
        self.breaker = BreakerState(Breaker(failures, cooldown))
        self.now = 0.0
        self.row = 0
        self.opened: float | None = None
        self.probe: Call | None = None
        self.running: list[Call] = []

    @rule(step=st.sampled_from([0.25, 1.0, 7.5]))
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule()
    def call_begins(self) -> None:
        cooling = self.opened is not None and self.now < self.opened + self.cooldown
        expected = self.probe is None and not cooling
        assert self.breaker.allows(self.now) is expected
        if not expected:
            return
        call = Call(self.breaker.period)
        if self.opened is not None:
            self.everyone_is_late()
            self.probe = call
        self.running.append(call)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def call_succeeds(self, data: st.DataObject) -> None:
        call = self.one_ends(data)
        closes = call is self.probe
        assert self.breaker.succeeded(call.period) is closes
        if call.late:
            return
        self.row = 0
        if closes:
            self.opened = self.probe = None
            self.everyone_is_late()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def call_fails(self, data: st.DataObject) -> None:
        call = self.one_ends(data)
        self.row += not call.late
        opens = not call.late and (call is self.probe or self.row >= self.failures)
        assert self.breaker.failed(self.now, call.period) is opens
        if opens:
            self.opened, self.probe = self.now, None
            self.everyone_is_late()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def call_is_abandoned(self, data: st.DataObject) -> None:
        call = self.one_ends(data)
        self.breaker.abandoned(call.period)
        if call is self.probe:
            self.probe = None

    @invariant()
    def both_agree(self) -> None:
        if not hasattr(self, "breaker"):
            return
        state = "closed" if self.opened is None else "half_open" if self.probe else "open"
        assert self.breaker.state == state
        assert self.breaker.failures == self.row

    def one_ends(self, data: st.DataObject) -> Call:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))

    def everyone_is_late(self) -> None:
        for call in self.running:
            call.late = True


TestBreakerAgainstItsModel = BreakerMachine.TestCase
TestBreakerAgainstItsModel.settings = settings(max_examples=200, stateful_step_count=40)
