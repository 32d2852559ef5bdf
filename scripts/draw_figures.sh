#!/usr/bin/env bash
# Redraw docs/figures/phantom_case.png, the median test case of Ours (MT) in the demo: bash scripts/draw_figures.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/demo.sh
cp demo/runs/ACDC/Ours_MT_2cases/seed_1337/test_best/figures/median_*.png docs/figures/phantom_case.png
echo "drawn: docs/figures/phantom_case.png"
