"""The rules of the house that no ready-made linter knows.

A bus must run in virtual time: a test moves the clock, draws the dice and fires the timers. That
holds only while one module, `runtime.py`, asks the machine for time, chance, ids and threads, so
this refuses them everywhere else; imports for type checkers alone are free. It also refuses what
makes a house hard to read: a function over 70 lines, a file over 400 whose docstring does not say
why it is longer, and a module that imports the package's front door, which stands above them all.

    python scripts/lint_house.py [PACKAGE]     prints `file:line: what is wrong`; exit code 1 if any
"""

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "headwater"

MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 400

# Besides the one module whose task it is: the command line, a program on top of the library, and
# the suite for engines, which starts real processes. Both measure and wait in real time.
MAY_ASK_THE_MACHINE = ("runtime.py", "cli/", "testing/conformance/")

# These come in by the front door, like any user.
MAY_USE_THE_FRONT_DOOR = ("cli/", "testing/")

MACHINE_MODULES = (
    "_thread",
    "concurrent.futures",
    "multiprocessing",
    "random",
    "sched",
    "secrets",
    "threading",
    "time",
    "uuid",
)

MACHINE_FUNCTIONS = (
    "asyncio.sleep",
    "asyncio.timeout",
    "asyncio.timeout_at",
    "asyncio.to_thread",
    "asyncio.wait_for",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "os.getrandom",
    "os.urandom",
)

# Methods of an event loop; to ask a runtime for the same is the right way.
LOOP_METHODS = ("call_at", "call_later", "run_in_executor")

Offence = tuple[int, str]


class House(ast.NodeVisitor):
    """Collects the offences of the module at `path`, relative to the folder of its package."""

    def __init__(self, package: Path, path: str) -> None:
        self._package = package
        self._path = path
        self._imported: dict[str, str] = {}  # A name in this module, and what it stands for.
        self._offences: list[Offence] = []

    def check(self) -> list[Offence]:
        """Line and text of each offence, in order."""
        source = (self._package / self._path).read_text(encoding="utf-8")
        tree = ast.parse(source)
        lines = len(source.splitlines())
        if lines > MAX_FILE_LINES and "longer" not in (ast.get_docstring(tree) or ""):
            self._refuse(1, f"{lines} lines, over {MAX_FILE_LINES}: say why it is longer, or cut")
        self.visit(tree)
        return sorted(self._offences)

    def visit_If(self, node: ast.If) -> None:
        """Pass over what only type checkers import."""
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """Check `import a.b`, which means a, and `import a.b as c`, which means a.b."""
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._imported[name] = alias.name if alias.asname else name
            self._check_name(node.lineno, alias.name)
            if alias.name == self._package.name:
                self._refuse_front_door(node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Check `from a import b`, where b may be a module or a name in one."""
        for alias in node.names:
            whole = f"{node.module or ''}.{alias.name}"
            self._imported[alias.asname or alias.name] = whole
            self._check_name(node.lineno, whole)
            if node.module == self._package.name and not self._is_module(alias.name):
                self._refuse_front_door(node.lineno)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Check `a.b`, with `a` as it was imported, and the methods of loops."""
        receiver = ast.unparse(node.value)
        first, dot, rest = receiver.partition(".")
        self._check_name(
            node.lineno, f"{self._imported.get(first, first)}{dot}{rest}.{node.attr}", whole=True
        )
        last = receiver.rpartition(".")[2]
        if (node.attr in LOOP_METHODS and "runtime" not in last) or (
            node.attr == "time" and "loop" in last
        ):
            self._refuse_machine(node.lineno, f"{last}.{node.attr}")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Measure `def`."""
        self._measure(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Measure `async def`."""
        self._measure(node)

    def _measure(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            self._refuse(node.lineno, f"{node.name} has {lines} lines, over {MAX_FUNCTION_LINES}")
        self.generic_visit(node)

    def _is_module(self, name: str) -> bool:
        return (self._package / name).is_dir() or (self._package / f"{name}.py").is_file()

    def _check_name(self, line: int, name: str, *, whole: bool = False) -> None:
        """Refuse a function of the machine, and a module or, unless `whole`, what it holds."""
        modules = () if whole else MACHINE_MODULES
        if name in MACHINE_FUNCTIONS or any(f"{name}.".startswith(f"{m}.") for m in modules):
            self._refuse_machine(line, name)

    def _refuse_machine(self, line: int, name: str) -> None:
        if not self._path.startswith(MAY_ASK_THE_MACHINE):
            self._refuse(line, f"{name} belongs to runtime.py")

    def _refuse_front_door(self, line: int) -> None:
        if not self._path.startswith(MAY_USE_THE_FRONT_DOOR):
            self._refuse(line, "imports the package itself, which stands above its modules")

    def _refuse(self, line: int, text: str) -> None:
        self._offences.append((line, text))


def lint(package: Path) -> list[str]:
    """Every offence in the modules of the folder `package`, as `file:line: text`."""
    return [
        f"{file}:{line}: {text}"
        for file in sorted(package.rglob("*.py"))
        for line, text in House(package, file.relative_to(package).as_posix()).check()
    ]


def main() -> int:
    """Lint the package, or the folder that is named, and say what is wrong."""
    offences = lint(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
    print("\n".join(offences), end="\n" if offences else "")
    return bool(offences)


if __name__ == "__main__":
    sys.exit(main())
