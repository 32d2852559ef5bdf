#!/usr/bin/env bash
# From nothing to a table and a page, without data, GPU or account: bash scripts/demo.sh
#   --all             Ours (BCP) and DuCiSC too
#   --name ACDC       your own data under $DATASET_HOME instead of phantoms
#   --iterations N    of each training (default 400)
#   --seed S          (default 1337)
# Makes its environment, makes phantom data, trains a supervised network and Ours (MT) at a small size, tests them and
# draws them. Everything is stored in demo/; finished steps are reused, and a run that was stopped is resumed. After a change
# of the code remove demo/ first: training does not resume under other code unasked.
set -euo pipefail
cd "$(dirname "$0")/.."
all= name= iterations=400 seed=1337
while [ $# -gt 0 ]; do
    case $1 in
        --all) all=yes; shift ;;
        --name) name=$2; shift 2 ;;
        --iterations) iterations=$2; shift 2 ;;
        --seed) seed=$2; shift 2 ;;
        *) sed -n '2,7p' "$0" >&2; exit 2 ;;
    esac
done
started=$SECONDS
source scripts/environment.sh

if [ -n "$name" ]; then
    : "${DATASET_HOME:?--name $name uses your own data: export DATASET_HOME=<the parent folder of $name/>}"
    runs=demo/runs_own
    data=(--name "$name" --labelnum 5)
else
    name=ACDC runs=demo/runs
    data=(--name ACDC --labeled_cases 2)
    export DATASET_HOME=$PWD/demo/phantoms
    [ -e demo/phantoms/ACDC/test.list ] ||
        "$PYTHON" scripts/make_phantom.py --name ACDC --out demo/phantoms --train 16 --val 3 --test 8 --shape 8 96 96
fi

# The ramp reaches full weight after a third of the run: R counts steps of 150 iterations.
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
echo "done in $((SECONDS - started)) s; open $runs/$name/Ours_MT_*/seed_$seed/report.html"
