#!/usr/bin/env bash
# bash scripts/measure_gpu.sh PHASE [flags]: scripts/measure_gpu.py in the environment of the other scripts.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" != tests ] || test_tools=yes
source scripts/environment.sh
exec "$PYTHON" scripts/measure_gpu.py "$@"
