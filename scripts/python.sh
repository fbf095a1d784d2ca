# Sourced by the other scripts: `find_python` sets $python to a Python 3.11 to 3.13, `make_environment [--dev]` makes .venv.
# $PYTHON, where set, is the only one tried.

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
root=$(dirname -- "$here")

fits() {
    "$1" -I -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

find_python() {
    for python in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if fits "$python"; then return 0; fi
        if [ -n "${PYTHON:-}" ]; then break; fi
    done
    echo "secure-ai: needs Python 3.11, 3.12 or 3.13; tried ${PYTHON:-python3, python3.13, python3.12 and python3.11}." >&2
    echo "secure-ai: install one, or name it: PYTHON=/path/to/python3.12 $0" >&2
    exit 3
}

make_environment() {
    find_python
    "$python" -I "$here/environment.py" "$@"
}
