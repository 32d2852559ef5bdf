#!/usr/bin/env bash
# Redraw docs/figures/phantom_case.png, the median test case of Ours (MT) in the demo, and, where Chromium or Chrome is
# installed, docs/figures/report_page.png, the run's page: bash scripts/draw_figures.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/demo.sh
run=demo/runs/ACDC/Ours_MT_2cases/seed_1337
cp "$run"/test_best/figures/median_*.png docs/figures/phantom_case.png
echo "drawn: docs/figures/phantom_case.png"

browser=$(command -v chromium || command -v google-chrome || true)
if [ -z "$browser" ]; then
    echo "not drawn: docs/figures/report_page.png, neither chromium nor google-chrome is installed"
    exit
fi
pictures=yes
source scripts/environment.sh
"$browser" --headless --no-sandbox --hide-scrollbars --window-size=1000,4000 --screenshot=demo/page.png \
    "file://$PWD/$run/report.html" 2> demo/browser.log
"$PYTHON" - <<'EOF'
from PIL import Image, ImageChops

page = Image.open("demo/page.png").convert("RGB")
_, _, _, bottom = ImageChops.difference(page, Image.new("RGB", page.size, "white")).getbbox()
page.crop((0, 0, page.width, bottom + 16)).save("docs/figures/report_page.png", optimize=True)
EOF
echo "drawn: docs/figures/report_page.png"
