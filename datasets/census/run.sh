#!/bin/sh
# Downloads UCI's Census-Income (KDD) and encodes it: sh datasets/census/run.sh [--help]
# The Python is $PYTHON, or else the repository's .venv, or else python3.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$here/../../.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=python3
fi
exec "$PYTHON" "$here/prepare.py" "$@"
