#!/usr/bin/env bash
# All that only a GPU can show, in one go: bash scripts/measure_gpu.sh [FILE] (default gpu.txt)
# GPU tests, benchmark at the papers' sizes, and real training with each speed flag, projected to the papers' iterations.
# Phantoms, or your data where DATASET_HOME holds ACDC/ and LA/. Smaller, to try it out on a CPU:
#   ITERATIONS=4 BATCH=4 SLICE="32 32" VOLUME="32 32 32" SETTINGS="float32 channels_last" bash scripts/measure_gpu.sh
set -euo pipefail
out=$(realpath "${1:-gpu.txt}")
cd "$(dirname "$0")/.."
test_tools=yes
source scripts/environment.sh
read -ra slice <<<"${SLICE:-256 256}"
read -ra volume <<<"${VOLUME:-112 112 80}"
iterations=${ITERATIONS:-2000} batch=${BATCH:-24}
settings=${SETTINGS:-float32 channels_last fused compile bf16 fast}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${DATASET_HOME:-}" ]; then
    export DATASET_HOME=$work/phantoms
    "$PYTHON" scripts/make_phantom.py --name ACDC --out "$DATASET_HOME" --train 16 --val 10 --shape 10 "${slice[@]}"
    "$PYTHON" scripts/make_phantom.py --name LA --out "$DATASET_HOME" --train 12 --shape "${volume[@]}"
fi

train() { # SCRIPT, iterations of the paper, flags: the part of the time, and the hours of a whole run
    local script=$1 whole=$2 runs
    shift 2
    runs=$(mktemp -d -p "$work")
    "$PYTHON" "$script" --labeled_cases 3 --max_iterations "$iterations" --log_interval "$(((iterations + 9) / 10))" \
        --output_dir "$runs" "$@" >"$runs/log" 2>&1 || { tail -3 "$runs/log"; return; }
    "$PYTHON" - "$runs" "$whole" <<'PY'
import json, statistics, sys
from pathlib import Path

(path,) = Path(sys.argv[1]).rglob("metrics.jsonl")
rates = [row["monitor/iterations_per_s"] for row in map(json.loads, path.open()) if "monitor/iterations_per_s" in row]
rate = statistics.median(rates[len(rates) // 2 :])  # the second half: warm
print(f"    {rate:.2f} iterations/s, {int(sys.argv[2]) / rate / 60:.1f} minutes for {sys.argv[2]}, validation apart")
PY
    grep "^where" "$runs/log" | sed 's/^/    /' || true
}

{
    date -u
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no NVIDIA GPU"
    "$PYTHON" -m pytest -q -m gpu tests/test_gpu.py | tail -1
    "$PYTHON" scripts/benchmark.py --only steps memory top --repeats 3 --patch_size "${slice[@]}" --batch_size "$batch" \
        --volume_size "${volume[@]}" 2>/dev/null
    for setting in $settings; do
        case $setting in
            float32) flags=() ;;
            bf16) flags=(--amp bf16) ;;
            *) flags=("--$setting") ;;
        esac
        for profile in "" --profile; do
            echo "Ours (MT), $setting $profile"
            train train_Ours_MT.py 30000 --name ACDC --patch_size "${slice[@]}" --batch_size "$batch" \
                --labeled_bs $((batch / 2)) "${flags[@]}" $profile
        done
        echo "DuCiSC, LA, $setting"
        train train_DuCiSC.py 15000 --name LA --patch_size "${volume[@]}" --warmup_iterations 0 --val_interval 1000000 "${flags[@]}"
    done
} 2>&1 | tee "$out"
echo "measured: $out"
