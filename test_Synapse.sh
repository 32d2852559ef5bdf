#!/usr/bin/env bash
# Test every Synapse run under runs/ and print one table: bash test_Synapse.sh [flags of test_2d.py]
# RUNS names another folder than runs/, PYTHON another interpreter than python.
set -euo pipefail
cd "$(dirname "$0")"
exec "${PYTHON:-python}" test_2d.py --name Synapse --output_dir "${RUNS:-runs}/Synapse" --columns dice asd "$@"
