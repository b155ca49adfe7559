"""Every small program in examples/ runs, as its reader would run it, and prints exactly this."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 60  # seconds until a hanging program is a failure

PRINTS = {
    "cpu_work": """\
orders.csv is read in the main thread: False
1000036000099 = 1000003 × 1000033
136117223861 = 104729 × 1299709
2147483647 = 2147483647 × 1
found in other processes: True
""",
    "dispatcher_async": """\
cook: the soup is ready
lay_table: the table for the soup is laid
main: awaited, so every handler of the soup has finished
main: going on while the handlers of the fish run; done: False
cook: the fish is ready
lay_table: the table for the fish is laid
main: awaited later; done: True
main: leaving the bus, with nothing done about the cake
cook: the cake is ready
lay_table: the table for the cake is laid
main: the bus has waited for the cake
""",
    "dispatcher_sync": """\
check_name: comes first, its priority is higher; 'Ada' is fine
create_profile: made a profile for Ada
send_welcome: welcome, Ada!
main: publish has returned, and all is done: True
main: one handler failed: LookupError('there is no discount today')
""",
    "durable_orders": """\
a run that handles what it publishes:
  billed o1, £12, at attempt 1
  thanked for £12
a run that only publishes:
  stored, and handled by nobody yet
a run that goes on, tries again, and gives up:
  billed o2, £6, at attempt 2
  thanked for £6
  given up after 2 attempts: KeyError 'moon'
a run that mends what was given up:
  billed o3, £12, at attempt 1
  thanked for £12
looking back:
  3 orders, £30
""",
    "frozen_events": """\
a deposit:
  audit, of every account event: Deposited(owner='Ada', pounds=100)
  thank, of deposits alone: thank you, Ada
  watch, by pattern: account.deposited
a withdrawal:
  audit, of every account event: Withdrawn(owner='Ada', pounds=30)
  watch, by pattern: account.withdrawn
  tamper, in vain: cannot assign to field 'pounds'
a deposit, published by name:
  audit, of every account event: Deposited(owner='Grace', pounds=5)
  thank, of deposits alone: thank you, Grace
  watch, by pattern: account.deposited
""",
    "logging_decorator": """\
INFO    reserve begins: OrderPlaced(order_id='o1')
reserved o1
INFO    reserve is done
INFO    ship begins: OrderPlaced(order_id='o1')
WARNING ship failed: ConnectionError('no courier at attempt 1')
INFO    notify begins: OrderPlaced(order_id='o1')
told the customer of o1
INFO    notify is done
OrderPlaced -> __main__.reserve (inline)
            -> __main__.ship (inline)
            -> __main__.notify (async)
""",
    "outbox_in_your_transaction": """\
registered Ada
opened an account for Ada
registered Grace
opened an account for Grace
refused Ada: UNIQUE constraint failed: users.name
users:    [('Ada',), ('Grace',)]
accounts: [('Ada',), ('Grace',)]
""",
    "partial_handlers": """\
PriceChanged -> letter (inline)
             -> sms (inline)
             -> siren (inline, where)

A lantern for £12:
letter: lantern now costs £12
sms: lantern now costs £12!

A lantern for £9, without sms:
letter: lantern now costs £9
siren: lantern now costs £9!
""",
    "weak_references": """\
the window is open:
  the lambda is called at tick 1
  the window is redrawn at tick 1
the window is closed:
  the lambda is called at tick 2
  the subscriber of Tick is gone
a lambda cannot be held weakly:
  weak=True: nothing else keeps main.<locals>.<lambda> alive, it would vanish at once;\
 use weak=False, or a bound method
""",
}

# What the log says on stderr, where it says anything: a failing handler is never silent.
LOGS = {
    "dispatcher_sync": (
        r"handler_failed event=UserRegistered id=\S+ handler=__main__\.book_discount .*"
        r"LookupError: there is no discount today\n.*"
    ),
}


@pytest.mark.parametrize("example", PRINTS)
def test_an_example_prints_what_it_promises(example: str) -> None:
    """The program ends well, its stdout is exact, and stderr has only what was meant."""
    done = subprocess.run(
        [sys.executable, "-W", "error", f"{example}.py"],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert re.fullmatch(LOGS.get(example, ""), done.stderr, re.DOTALL), done.stderr
    assert done.stdout == PRINTS[example]
    assert done.returncode == 0


def test_no_example_is_forgotten() -> None:
    """Each program in examples/ is run above."""
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(PRINTS)
