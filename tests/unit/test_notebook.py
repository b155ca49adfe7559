"""Notebooks: a real kernel runs cells, and runs them again; headwater follows what is redefined."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat.v4
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

SOURCE = Path(__file__).parents[2] / "src"


def code_cell(source: str) -> Any:
    """A cell that holds `source`."""
    return nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]


class Notebook:
    """A notebook whose cells are run one at a time, each as often as a test likes."""

    def __init__(self, client: NotebookClient) -> None:
        self._client = client

    def run(self, source: str, cell_id: str | None = None) -> str:
        """Run a cell; what it printed, and the text of its last expression."""
        outputs = self.show(source, cell_id)
        return "".join(one.get("text") or one["data"]["text/plain"] for one in outputs).strip()

    def show(self, source: str, cell_id: str | None = None) -> list[Any]:
        """Run a cell; its outputs in every format they have.

        Editors send the id of the cell with it, and nbclient does not.
        """
        assert self._client.kc is not None
        session = self._client.kc.session
        known = {"cellId": cell_id} if cell_id else {}
        cell = code_cell(source)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "msg", functools.partial(session.msg, metadata=known))
            self._client.execute_cell(cell, 0)
        return list(cell.outputs)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """One kernel for all tests, with nobody's configuration."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SOURCE))
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, home)
        page = nbformat.v4.new_notebook(cells=[code_cell("")])  # type: ignore[no-untyped-call]
        client = NotebookClient(page, timeout=60, kernel_name="python3")
        with client.setup_kernel():
            notebook = Notebook(client)
            notebook.run("from dataclasses import dataclass\nfrom headwater import *")
            yield notebook


ORDER = """
@dataclass(frozen=True)
class {name}:
    item: str
"""


LOOPS = {
    "lambda": """
        for _ in range(3):
            bus.subscribe("counted", lambda event: seen.append(event))
    """,
    "underscore": """
        for number in range(3):
            @bus.on("counted")
            def _(event): seen.append(event)
    """,
    "closure": """
        def adder():
            def add(event): seen.append(event)
            return add
        for _ in range(3):
            bus.subscribe("counted", adder())
    """,
    "the same function": """
        def add(event): seen.append(event)
        for _ in range(3):
            bus.subscribe("counted", add)
    """,
    "partial": """
        import functools
        for number in range(3):
            bus.subscribe("counted", functools.partial(lambda n, event: seen.append(event), number))
    """,
}


def test_a_kernel_is_at_work(notebook: Notebook) -> None:
    """Cells share what they define, and errors come out."""
    notebook.run("number = 41")
    assert notebook.run("print('the number is'); number + 1") == "the number is\n42"
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        notebook.run("1 / 0")


def test_a_cell_awaits_a_publish_at_top_level(notebook: Notebook) -> None:
    """Sync and async handlers have run when the cell goes on, on the kernel's own loop."""
    notebook.run("seen, bus = [], Bus()")
    notebook.run("""
        @bus.on("greeted")
        def now(name): seen.append(f"sync {name}")

        @bus.on("greeted")
        async def soon(name): seen.append(f"async {name}")
    """)
    assert notebook.run('receipt = await bus.publish("greeted", "Ada"); receipt.done') == "True"
    assert notebook.run("sorted(seen)") == "['async Ada', 'sync Ada']"
    assert notebook.run("await bus.idle(5)") == ""


def test_a_publish_without_await_still_runs(notebook: Notebook) -> None:
    """An async handler runs when the cell gives the loop a moment; a sync one already has."""
    notebook.run("seen, bus = [], Bus()")
    notebook.run("""
        @bus.on("greeted")
        async def soon(name): seen.append(name)
    """)
    notebook.run('receipt = bus.publish("greeted", "Ada")')
    assert notebook.run("await receipt; seen") == "['Ada']"


def test_streams_and_requests_work_at_top_level(notebook: Notebook) -> None:
    """What is awaited elsewhere is awaited in a cell too."""
    notebook.run("bus = Bus()\nnumbers = bus.stream('number')")
    notebook.run("for number in range(3): bus.publish('number', number)")
    assert notebook.run("[await anext(numbers) for _ in range(3)]") == "[0, 1, 2]"
    notebook.run("""
        @bus.reply("double")
        def double(number): return 2 * number
    """)
    assert notebook.run("await bus.request('double', 21)") == "42"


def test_a_handler_defined_again_replaces_the_earlier_one(notebook: Notebook) -> None:
    """Running its cell again, or an edited cell, leaves one subscription: the newest."""
    notebook.run("seen, bus = [], Bus()")
    for text in ("old", "old", "new"):
        notebook.run(f"""
            @bus.on("greeted")
            def greet(name): seen.append("{text} " + name)
        """)
    notebook.run('bus.publish("greeted", "Ada")')
    assert notebook.run("seen") == "['new Ada']"
    assert notebook.run("len(bus.topology().reactions)") == "1"


def test_handlers_of_other_names_events_and_buses_stay(notebook: Notebook) -> None:
    """Only the same handler of the same events on the same bus is the same definition."""
    notebook.run("seen, bus, other = [], Bus(), Bus()")
    notebook.run("""
        @other.on("greeted")
        @bus.on("left")
        @bus.on("greeted")
        def first(name): seen.append("first")
    """)
    notebook.run("""
        @bus.on("greeted")
        def second(name): seen.append("second")
    """)
    notebook.run('bus.publish("greeted", 1); bus.publish("left", 1); other.publish("greeted", 1)')
    assert notebook.run("seen") == "['first', 'second', 'first', 'first']"


def test_an_event_class_defined_again_keeps_its_handlers(notebook: Notebook) -> None:
    """The class's cell runs again, the handler's does not, and the new class finds the handler."""
    define = ORDER.format(name="Redefined")
    notebook.run(f"seen, bus = [], Bus()\n{define}")
    notebook.run("""
        @bus.on(Redefined)
        def reserve(order): seen.append(order.item)
    """)
    notebook.run('await bus.publish(Redefined("apple"))')
    notebook.run(define + "    price: int = 1\n")
    notebook.run('await bus.publish(Redefined("pear", 2))')
    assert notebook.run("seen") == "['apple', 'pear']"
    notebook.run("""
        @bus.on(Redefined)
        def reserve(order): seen.append(order.price)
    """)
    notebook.run('await bus.publish(Redefined("plum", 3))')
    assert notebook.run("seen") == "['apple', 'pear', 3]"
    notebook.run('await bus.publish("Redefined", {"item": "fig", "price": 4})')
    assert notebook.run("seen[-1]") == "4"


def test_the_whole_notebook_may_be_run_again(notebook: Notebook) -> None:
    """Class, handler and publish in one cell: each run handles its event once."""
    cell = """
        @dataclass(frozen=True)
        class RunAgain:
            item: str

        @again.on(RunAgain)
        def handle(order): seen.append(order.item)

        @again.on(RunAgain)
        async def handle_soon(order): seen.append(order.item.upper())

        await again.publish(RunAgain("a"))
        print(sorted(seen))
        seen.clear()
    """
    notebook.run("seen, again = [], Bus()")
    for _ in range(3):
        assert notebook.run(cell) == "['A', 'a']"


@pytest.mark.parametrize("source", LOOPS.values(), ids=LOOPS)
def test_a_loop_in_a_cell_registers_each_and_replaces_them_all(
    notebook: Notebook, source: str
) -> None:
    """Within one run of a cell all are separate; the next run takes the place of the last one."""
    notebook.run("bus = Bus()")
    for _ in range(3):
        notebook.run(source)
        assert notebook.run("seen = []; bus.publish('counted', 7); seen") == "[7, 7, 7]"
    assert notebook.run("len(bus.topology().reactions)") == "3"


def test_an_edited_cell_replaces_what_has_no_name(notebook: Notebook) -> None:
    """Where the editor tells which cell it is, a lambda may be rewritten, moved, and taken away."""
    notebook.run("seen, bus = [], Bus()")
    notebook.run("bus.subscribe('counted', lambda event: seen.append('other'));", "other")
    two = "for n in range(2): bus.subscribe('counted', lambda event: seen.append('old'))"
    notebook.run(two, "edited")
    notebook.run("bus.publish('counted', 0)")
    assert notebook.run("print(seen); seen.clear()") == "['other', 'old', 'old']"
    notebook.run("\nbus.subscribe('counted', lambda event: seen.append('new'));", "edited")
    notebook.run("bus.publish('counted', 0)")
    assert notebook.run("seen") == "['other', 'new']"


def test_handlers_without_a_name_in_different_cells_stay(notebook: Notebook) -> None:
    """Two cells with a lambda each are two handlers; so are two with `_`."""
    notebook.run("seen, bus = [], Bus()")
    notebook.run("bus.subscribe('counted', lambda event: seen.append(1));")
    notebook.run("bus.subscribe('counted', lambda event: seen.append(2));")
    for number in (3, 4):
        notebook.run(f"@bus.on('counted')\ndef _(event): seen.append({number})")
    notebook.run("bus.publish('counted', 0)")
    assert notebook.run("seen") == "[1, 2, 3, 4]"


def test_a_method_subscribed_again_is_replaced(notebook: Notebook) -> None:
    """The object made by the cell's last run is the one that handles."""
    notebook.run("seen, bus = [], Bus()")
    for number in (1, 2):
        notebook.run(f"""
            class Counter:
                def count(self, event): seen.append({number})
            bus.subscribe("counted", Counter().count);
        """)
    notebook.run("bus.publish('counted', 0)")
    assert notebook.run("seen") == "[2]"


def test_included_handlers_are_replaced_too(notebook: Notebook) -> None:
    """`Handlers` made and included anew by a cell take the place of the earlier ones."""
    notebook.run("seen, bus = [], Bus()")
    for number in (1, 2):
        notebook.run(f"""
            handlers = Handlers()
            @handlers.on("counted")
            def count(event): seen.append({number})
            bus.include(handlers);
        """)
    notebook.run("bus.publish('counted', 0)")
    assert notebook.run("seen") == "[2]"


def test_a_replier_defined_again_answers(notebook: Notebook) -> None:
    """The newest definition replies; another function for the same request is still refused."""
    notebook.run("bus = Bus()")
    for factor in (2, 3):
        notebook.run(f"""
            @bus.reply("multiplied")
            def multiply(number): return {factor} * number
        """)
    assert notebook.run("await bus.request('multiplied', 7)") == "21"
    with pytest.raises(CellExecutionError, match="DuplicateName"):
        notebook.run("@bus.reply('multiplied')\ndef other(number): return 0")


def test_middleware_and_observers_defined_again_are_replaced(notebook: Notebook) -> None:
    """What stands around and beside handlers is not doubled either, and keeps its place."""
    notebook.run("seen, bus = [], Bus()")
    notebook.run("bus.subscribe('counted', lambda event: seen.append('handled'));")
    for text in ("old", "new"):
        notebook.run(f"""
            @bus.middleware
            def outer(event):
                seen.append("{text} outer"); yield
            @bus.middleware(on="publish")
            def published(event):
                seen.append("{text} published"); yield
            @bus.middleware
            @bus.middleware(on="publish")
            def both(event):
                seen.append("{text} both"); yield
            @bus.observe
            def watch(record): seen.append("{text} " + type(record).__name__)
        """)
    notebook.run("@bus.middleware\ndef inner(event):\n    seen.append('inner'); yield")
    notebook.run("bus.publish('counted', 0)")
    assert notebook.run("print(*seen, sep=', ')") == (
        "new published, new both, new Published, new outer, new both, inner, handled, new Handled"
    )


def test_a_topology_is_shown_as_a_picture_and_as_text(notebook: Notebook) -> None:
    """The output holds HTML with an inline SVG, and plain text for terminals and diffs."""
    notebook.run("bus = Bus()\n" + ORDER.format(name="Shown"))
    notebook.run("@bus.on(Shown)\ndef reserve(order): ...")
    (output,) = notebook.show("bus.topology()")
    assert set(output["data"]) == {"text/html", "text/plain"}
    assert output["data"]["text/plain"] == "Shown -> __main__.reserve (inline)"
    picture = output["data"]["text/html"]
    assert "<svg " in picture
    assert ">Shown</text>" in picture
    assert "http" not in picture.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_an_empty_topology_says_so(notebook: Notebook) -> None:
    """A bus without handlers shows a sentence and no empty frame."""
    (output,) = notebook.show("Bus().topology()")
    assert output["data"]["text/plain"] == "nobody reacts to anything yet"
    assert "<svg" not in output["data"]["text/html"]


def test_outside_notebooks_nothing_is_replaced() -> None:
    """The same definitions run twice in a program are two handlers, IPython imported or not."""
    program = """
import IPython
from headwater import Bus

bus, seen = Bus(), []
for _ in range(2):
    exec('''
@bus.on("counted")
def count(event): seen.append("function")
bus.subscribe("counted", lambda event: seen.append("lambda"))
''')
bus.publish("counted", 0)
print(seen)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.stdout == "['function', 'lambda', 'function', 'lambda']\n"


def test_two_classes_of_one_name_are_refused_outside_notebooks() -> None:
    """What a cell may do a program may not: the second class is an error, and the first stays."""
    program = """
from headwater import Bus
from headwater.errors import DuplicateName

bus, seen = Bus(), []
define = "class OrderPlaced: ..."
exec(define)
first = OrderPlaced
bus.subscribe(first, seen.append)
exec(define)
try:
    bus.subscribe(OrderPlaced, seen.append)
except DuplicateName as error:
    print(error)
bus.publish(first())
print(len(seen))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    refusal, count = done.stdout.splitlines()
    assert "both named 'OrderPlaced'" in refusal
    assert count == "1"
