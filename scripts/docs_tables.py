"""Makes the parts of docs/ that repeat the code: options, policies, settings, records, errors.

    python scripts/docs_tables.py            writes what is out of date
    python scripts/docs_tables.py --check    only names it; then the exit code is 1

A page marks the place with ``<!-- made by scripts/docs_tables.py: NAME -->`` and ``<!-- end -->``.
"""

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headwater import Backoff, Breaker, Bus, Rate, Resequence, Retry, errors, records
from headwater.options import OPTIONS
from headwater.sending import PublishOptions
from headwater.transports.sqlite.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLACE = re.compile(
    r"(?P<begin><!-- made by scripts/docs_tables\.py: (?P<name>[\w ]+) -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def subscription_options() -> str:
    """Return the table option × (direct, transport)."""
    return table(
        ("option", "takes", "default", "meaning", "direct", "transport"),
        (
            (f"`{name}`", doc.takes, f"`{doc.default}`", doc.meaning, doc.direct, doc.transport)
            for name, doc in OPTIONS.items()
        ),
    )


def publish_options() -> str:
    """Return the table of what `Bus.publish` takes beside the event."""
    meanings = documented(PublishOptions, "Attributes")
    return table(
        ("option", "meaning"), ((f"`{name}`", meaning) for name, meaning in meanings.items())
    )


def bus_arguments() -> str:
    """Return the table of what `Bus` takes."""
    return arguments(Bus)


def policies() -> str:
    """Return a headed table for each policy."""
    parts = [
        f"### {policy.__name__}\n\n{arguments(policy)}"
        for policy in (Retry, Backoff, Breaker, Rate, Resequence)
    ]
    return "\n".join(parts)


def log_settings() -> str:
    """Return the table of what the URL of a SQLite log may say after its question mark."""
    parameters = inspect.signature(Settings).parameters
    meanings = documented(Settings, "Attributes")
    return table(
        ("setting", "default", "meaning"),
        (
            (f"`?{name}=`", plain(parameters[name].default), meaning)
            for name, meaning in meanings.items()
            if name != "path"
        ),
    )


def record_table() -> str:
    """Return the table of the records, each with the fields that its base has not."""
    rows: list[tuple[str, str, str]] = []
    for record in vars(records).values():
        if isinstance(record, type) and issubclass(record, records.Record):
            fields = ", ".join(f"`{name}`" for name in inspect.get_annotations(record))
            rows.append((f"`{record.__name__}`", fields, paragraph(record)))
    return table(("record", "fields", "meaning"), rows)


def error_tree() -> str:
    """Return the tree of errors as `headwater.errors` draws it."""
    tree = inspect.cleandoc(errors.__doc__ or "").partition("::\n\n")[2]
    return f"```text\n{inspect.cleandoc(tree)}\n```\n"


PARTS = {
    "bus arguments": bus_arguments,
    "error tree": error_tree,
    "log settings": log_settings,
    "policies": policies,
    "publish options": publish_options,
    "records": record_table,
    "subscription options": subscription_options,
}


def arguments(cls: type) -> str:
    """Return the table of what a class takes, from its signature and its docstring."""
    parameters = inspect.signature(cls).parameters
    return table(
        ("argument", "default", "meaning"),
        (
            (f"`{name}`", default_of(parameters[name]), meaning)
            for name, meaning in documented(cls, "Args").items()
        ),
    )


def documented(cls: type, section: str) -> dict[str, str]:
    """Return the names in a section of a class's docstring, each with what is said about it."""
    text = inspect.getdoc(cls) or ""
    found = re.search(rf"^{section}:\n((?: .*\n|\n)*)", text + "\n", re.MULTILINE)
    lines = inspect.cleandoc("\n" + found[1]) if found else ""
    items = re.findall(r"^(\w+): (.*(?:\n +.*)*)", lines, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in items}


def default_of(parameter: inspect.Parameter) -> str:
    """Return a parameter's default as it is written; nothing for one that must be given."""
    default: Any = parameter.default
    if default is parameter.empty:
        return ""
    if isinstance(default, type):
        return f"`{default.__name__}`"
    if isinstance(default, Backoff):
        return "`Backoff()`"
    return f"`{default!r}`"


def plain(value: object) -> str:
    """Return a number with its thousands apart, or a word."""
    return f"{value:,.12g}" if isinstance(value, float | int) else str(value)


def paragraph(cls: type) -> str:
    """Return a class's docstring as one paragraph."""
    return " ".join((inspect.getdoc(cls) or "").split())


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([cell(text) for text in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(text: str) -> str:
    """Return text as it may stand in a table: code in single quotes, no bare bars."""
    return text.replace("``", "`").replace("|", "\\|")


def renewed(page: str) -> str:
    """Return a page with all that it takes from the code made anew."""
    return PLACE.sub(
        lambda place: f"{place['begin']}\n{PARTS[place['name']]()}\n{place['end']}", page
    )


def main() -> int:
    """Write the pages that are out of date, or only name them."""
    check = sys.argv[1:] == ["--check"]
    stale: list[Path] = []
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (new := renewed(page)) != page:
            stale.append(path)
            if not check:
                path.write_text(new, encoding="utf-8")
    for path in stale:
        print(f"docs/{path.name}", "is out of date" if check else "written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
