#!/usr/bin/env bash
# Lint and run all tests: bash scripts/test.sh [arguments of pytest]
# With PYTHON=/path/python3 that interpreter is used as it is (scripts/environment.sh); without ruff there is no lint.
set -euo pipefail
cd "$(dirname "$0")/.."
given=${PYTHON:-} test_tools=yes pictures=yes
source scripts/environment.sh
if [ -z "$given" ] || "$PYTHON" -m ruff --version >/dev/null 2>&1; then
    "$PYTHON" -m ruff check .
    "$PYTHON" -m ruff format --check .
else
    echo "not linted: $PYTHON has no ruff"
fi
"$PYTHON" -m pytest --durations=5 "$@"
