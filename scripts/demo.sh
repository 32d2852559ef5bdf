#!/usr/bin/env bash
# From nothing to a table and a page, without data, GPU or account: bash scripts/demo.sh
#   --all             Ours (BCP) and DuCiSC too
#   --name ACDC       your own data under $DATASET_HOME instead of phantoms
#   --iterations N    of each training (default 400)
#   --seed S          (default 1337)
# Makes its environment (scripts/environment.sh says which; PYTHON=/path/python3 names one), makes phantom data, trains a
# supervised network and Ours (MT) at a small size, tests them and draws them. Everything is stored in demo/; finished
# steps are reused, rerun the command after an interruption to continue. After a change of the code remove demo/ first:
# training does not resume under other code unasked.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "error: $1; usage: bash scripts/demo.sh [--all] [--name ACDC] [--iterations N] [--seed S]" >&2; exit 2; }
all= name= iterations=400 seed=1337
while [ $# -gt 0 ]; do
    case $1 in
        --all) all=yes; shift ;;
        --name | --iterations | --seed)
            [ -n "${2:-}" ] || fail "$1 needs a value"
            declare "${1#--}=$2"; shift 2 ;;
        *) fail "unknown argument $1" ;;
    esac
done
[[ $iterations =~ ^[1-9][0-9]{0,8}$ && $iterations -ge 4 ]] || fail "--iterations $iterations is not a whole number from 4"
[[ $seed =~ ^[0-9]{1,9}$ ]] || fail "--seed $seed is not a whole number from 0"
[ -z "$name" ] || [ -n "${DATASET_HOME:-}" ] || fail "--name: export DATASET_HOME=<the parent folder of $name/> first"
started=$SECONDS pictures=yes
source scripts/environment.sh

if [ -n "$name" ]; then
    runs=demo/runs_own
    data=(--name "$name" --labelnum 5)
else
    name=ACDC runs=demo/runs
    data=(--name ACDC --labeled_cases 2)
    export DATASET_HOME=$PWD/demo/phantoms
    [ -e demo/phantoms/ACDC/test.list ] ||
        "$PYTHON" scripts/make_phantom.py --name ACDC --out demo/phantoms --train 16 --val 3 --test 8 --shape 8 96 96
fi

# The ramp reaches full weight after a third of the run, rounded up to a multiple of 150 iterations.
ramp=$(((iterations + 449) / 450))
interval=$((iterations / 4))
small=(--patch_size 64 64 --batch_size 8 --labeled_bs 4 --max_iterations "$iterations" --val_interval "$interval"
    --save_interval "$interval" --num_workers 0 --seed "$seed" --output_dir "$runs")
"$PYTHON" train_Ours_MT.py "${data[@]}" "${small[@]}" --consistency_rampup "$ramp" --preset supervised
"$PYTHON" train_Ours_MT.py "${data[@]}" "${small[@]}" --consistency_rampup "$ramp"
if [ -n "$all" ]; then
    "$PYTHON" train_Ours_BCP.py "${data[@]}" "${small[@]}" --consistency_rampup "$ramp" --pretrain_iterations "$((iterations / 2))"
    "$PYTHON" train_DuCiSC.py "${data[@]}" "${small[@]}" --warmup_iterations "$((iterations / 2))" --val_start 1
fi
"$PYTHON" test_2d.py --name "$name" --output_dir "$runs/$name" --figures
echo "this environment for other commands: export PATH=$(dirname "$PYTHON"):\$PATH"
echo "done in $((SECONDS - started)) s; open $runs/$name/Ours_MT_*/seed_$seed/report.html"
