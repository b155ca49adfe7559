# Sourced by the scripts beside it: makes the .venv they need, and nothing when it is there already.
#
#   prepare demo         headwater with its command line, for a newcomer in a hurry
#   prepare dev          everything that scripts/check and the tests need; a demo as well
#   prepare benchmarks   the libraries that benchmarks/ compares headwater with
#
# All three share .venv. A stamp in it holds the checksum of what an install depends on, so a second
# run costs a few milliseconds. uv does the work where there is one, else venv and pip. PYTHON names
# what a new .venv is made from. Whatever this says goes to stderr: stdout belongs to the program that
# is run. Call `prepare` by itself, never in a condition: there, `set -e` does not stop at a failure.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
python=$venv/bin/python
cd "$root"

say() { printf '%s\n' "$*" >&2; }

# A shim of a version manager may stand on PATH and still not run, so each tool is asked.
has_uv() { uv --version >/dev/null 2>&1; }

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the Python to build .venv with: $PYTHON if set, else the first that will do.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3.15 python3 python}; do
        if is_recent "$candidate" && { has_uv || "$candidate" -c 'import ensurepip, venv' 2>/dev/null; }; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

no_python() {
    say "headwater needs Python 3.11 or newer, and found none that can make a virtual environment."
    say "  looked for: ${PYTHON:-python3.11 to python3.15, python3, python} on PATH"
    say "  found:      $(python3 --version 2>/dev/null || echo "no python3 that runs")"
    say "  fix:        install Python 3.11 or newer (on Debian and Ubuntu with python3-venv),"
    say "              or name one: PYTHON=/path/to/python3.11 $0"
    exit 1
}

# What an install depends on. The folder's own path counts too: scripts inside .venv contain it.
fingerprint() {
    { printf '%s %s\n' "$root" "$("$python" --version 2>&1)"; cat pyproject.toml constraints.txt; } | cksum
}

is_ready() {
    [ -x "$python" ] && [ "$(cat "$venv/ready-$1" 2>/dev/null)" = "$(fingerprint)" ]
}

# A .venv that has been moved is of no use, since its scripts name the interpreter by its full path.
is_usable() {
    is_recent "$python" && { [ ! -e "$venv/made-for" ] || [ "$(cat "$venv/made-for")" = "$root" ]; }
}

make_venv() {
    local base
    is_usable && return
    base=$(find_python) || no_python
    say "Making .venv with $("$base" --version) ..."
    rm -rf "$venv"
    if has_uv; then
        uv venv --quiet --python "$base" "$venv" >&2
    else
        "$base" -m venv "$venv" >&2
    fi
    printf '%s\n' "$root" >"$venv/made-for"
}

install() {
    if has_uv; then
        uv pip install --quiet --python "$python" --constraints constraints.txt "$@" >&2
    else
        "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >&2
        "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@" >&2
    fi
}

# The pip that comes with Python 3.11 is too old to know dependency groups.
install_group() {
    has_uv || install 'pip>=25.1'
    install --editable '.[all]' --group "$1"
}

prepare() {
    is_ready "$1" && return
    make_venv
    say "Installing what $1 needs ..."
    case $1 in
        demo) install --editable '.[cli]' ;;
        *) install_group "$1" ;;
    esac
    # Whoever has a group has the command line too.
    fingerprint | tee "$venv/ready-demo" >"$venv/ready-$1"
}
