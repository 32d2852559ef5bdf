"""The rows of the papers' tables, declared: what scripts/reproduce.py trains. Published values, with their sources, are
in results/published.json under the same dataset, method, label number and preset.

A row is one command; its flags are the papers' by default (each train script's DEFAULTS), so that a row names only what
differs. To add a table, add a target here.
"""

from __future__ import annotations

from typing import NamedTuple, Optional


class Row(NamedTuple):
    """One setting: a train script on a dataset with --labelnum, --preset and further flags, as a user types them."""

    dataset: str
    script: str  # without .py
    labelnum: int
    preset: Optional[str] = None
    flags: tuple[str, ...] = ()
    folder: str = ""  # below --output_dir, for runs that must not mix with those at the papers' size


MT, BCP, DUCISC = "train_Ours_MT", "train_Ours_BCP", "train_DuCiSC"


def presets(dataset: str, script: str, labelnum: int, names: str) -> list[Row]:
    """The full method, then a row for each of the presets."""
    return [Row(dataset, script, labelnum), *(Row(dataset, script, labelnum, name) for name in names.split())]


# A small-size check on real data that a CPU can train: not the papers' setting. The unlabelled terms have full weight
# from iteration 150 * 7 = 1,050 on, a third of the run, and DuCiSC's warm-up is a third. How far bf16 differs from
# float32: results/acdc_small.md.
SMALL = "--patch_size 96 96 --batch_size 8 --labeled_bs 4 --max_iterations 3000 --num_workers 0"
SMALL_FLAGS = {
    MT: f"{SMALL} --amp bf16 --channels_last --consistency_rampup 7",
    BCP: f"{SMALL} --amp bf16 --channels_last --consistency_rampup 7 --pretrain_iterations 1000",
    DUCISC: f"{SMALL} --amp bf16 --channels_last --warmup_iterations 1000",
}


def small(script: str, preset: Optional[str] = None, labelnum: int = 5, flags: str = "") -> Row:
    """A row of the small-size checks; `flags` are added to its own."""
    return Row("ACDC", script, labelnum, preset, (*SMALL_FLAGS[script].split(), *flags.split()), "acdc-small")


TARGETS = {
    # SPC's main tables
    "spc-acdc": [Row("ACDC", script, labelnum) for labelnum in (5, 10) for script in (MT, BCP)],
    "spc-synapse": [Row("Synapse", script, labelnum) for labelnum in (5, 10) for script in (MT, BCP)],
    # SPC's ablations, published for MT on Synapse at 10 %; memory 128 and uniform mixing are the full method
    "spc-synapse-ablations": presets(
        "Synapse", MT, 10,
        "supervised baseline no-contrast no-blending memory-32 memory-64 memory-256 mix-binomial mix-beta "
        "weak-to-strong strong-to-weak",
    ),
    "spc-acdc-ablations": [
        row for script in (MT, BCP) for row in presets("ACDC", script, 5, "supervised baseline no-contrast no-blending")
    ],
    # DuCiSC: its README gives no table, so nothing is published here
    "ducisc-la": [Row("LA", DUCISC, labelnum) for labelnum in (4, 8, 16)],
    "ducisc-pancreas": [Row("Pancreas", DUCISC, labelnum) for labelnum in (6, 12)],
    "ducisc-acdc": [Row("ACDC", DUCISC, labelnum) for labelnum in (5, 10)],
    **{
        f"ducisc-{dataset.lower()}-ablations": presets(
            dataset, DUCISC, labelnum,
            "supervised no-consistency no-fusion no-proto no-fused-proto fixed-threshold "
            "num-proto-1 num-proto-2 num-proto-3",
        )
        for dataset, labelnum in (("LA", 8), ("Pancreas", 6))
    },
    # Does it work? Floor, baselines, ablations, full methods and the ceiling (all 70 patients labelled), small
    "acdc-small": [
        *(small(MT, preset) for preset in ("supervised", "baseline", "no-blending", "no-contrast", None)),
        *(small(BCP, preset) for preset in ("baseline", None)),
        *(small(DUCISC, preset) for preset in ("supervised", None)),
        small(MT, "supervised", labelnum=100),
    ],
    # DuCiSC in 2-D: the release's network with either kind of features, and the V-Net
    "ducisc-small-networks": [
        small(DUCISC, labelnum=10, flags=flags)
        for flags in ("", "--proto_features decoder --exp decoder_features", "--net ducisc --exp vnet")
    ],
}  # fmt: skip

# --smoke: phantoms (cases of make_phantom: train, val, test, and a volume's shape) and flags that make a row a matter
# of seconds, by the data's dimension and by the script.
SMOKE_PHANTOMS = {
    "ACDC": (9, 1, 2, (4, 48, 48)),
    "Synapse": (4, 0, 2, (6, 48, 48)),
    "LA": (18, 0, 2, (40, 40, 36)),
    "Pancreas": (14, 0, 2, (40, 40, 40)),
}
SMOKE_FLAGS = {
    2: "--patch_size 32 32 --batch_size 8 --labeled_bs 4 --max_iterations 60 --val_interval 20 --save_interval 10 "
    "--log_interval 10 --num_workers 0",
    3: "--patch_size 32 32 32 --max_iterations 20 --val_interval 10 --save_interval 5 --log_interval 5 "
    "--num_workers 0 --val_start 1 --val_stride 32 32",
    MT: "--consistency_rampup 1",
    BCP: "--consistency_rampup 1 --pretrain_iterations 40",
    DUCISC: "--warmup_iterations 10",
}
