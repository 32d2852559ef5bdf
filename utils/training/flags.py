"""The flags that every train script has."""

from __future__ import annotations

import argparse
from typing import Mapping, Optional, Sequence

from dataloaders.registry import DATASETS
from networks.net_factory import NETWORKS, check_network
from utils.cli import (
    Parser,
    add_name_flag,
    array_size,
    check_patch_size,
    minutes,
    named_dataset,
    new_folder,
    not_negative,
    part_of_name,
    positive,
    positive_number,
    seed_number,
    worker_count,
)
from utils.runs.device import usable_cores
from utils.runs.folder import unused_flags


def add_data_flags(parser: argparse.ArgumentParser, dims: Sequence[int], labelnum: int) -> None:
    """Flags that say what is read. `dims`: the dimensions of the datasets that the script trains on."""
    group = parser.add_argument_group("data")
    add_name_flag(group, dims)
    group.add_argument(
        "--labelnum",
        type=positive,
        default=labelnum,
        help="amount of labelled data in the dataset's protocol: percent for ACDC and Synapse, volumes for LA, "
        "Pancreas and IAN; not for custom datasets (default: %(default)s)",
    )
    group.add_argument(
        "--labeled_cases",
        type=positive,
        metavar="N",
        help="instead of --labelnum: use the labels of the first N cases (patients) of the training list (default: not "
        "used)",
    )
    group.add_argument("--root_path", help="folder of the dataset (default: its name under $DATASET_HOME)")
    for role, what in (("train", "training"), ("val", "validation"), ("test", "test")):
        group.add_argument(f"--{role}_list", metavar="FILE", help=f"{what} list (default: the dataset's)")
    group.add_argument(
        "--protocol",
        choices=("paper", "holdout", "last"),
        help="how the best weights are selected if there is no validation list. paper: on the test list, as the "
        "released code does; holdout: on a few cases of the training list that have labels which --labelnum does not "
        "use, left out of training; last: not at all, the last weights are used (default: paper; for a custom dataset "
        "holdout, or last if too few cases have labels)",
    )
    group.add_argument(
        "--holdout_cases",
        type=positive,
        default=4,
        metavar="K",
        help="number of cases that --protocol holdout leaves out of training (default: %(default)s)",
    )
    group.add_argument(
        "--patch_size",
        type=array_size,
        nargs="+" if len(dims) > 1 else dims[0],
        metavar="N",
        help="size of the network's input in array axis order; each must be divisible by 16 (default: the dataset's)",
    )


def add_training_flags(parser: argparse.ArgumentParser, defaults: Mapping[int, Mapping[str, int]]) -> None:
    """Flags of the shared loop. `defaults`: the paper's values by the data's dimension; `parse` puts them in."""

    def paper(flag: str) -> str:
        values = [
            f"{values[flag]}" + (f" in {dims}-D" if len(defaults) > 1 else "") for dims, values in defaults.items()
        ]
        return f"(default: {', '.join(values)}, the paper's)"

    group = parser.add_argument_group("training")
    group.add_argument(
        "--net", choices=tuple(NETWORKS), metavar="NAME", help=f"network: {', '.join(NETWORKS)} {paper('net')}"
    )
    group.add_argument("--max_iterations", type=positive, help=f"number of iterations {paper('max_iterations')}")
    group.add_argument("--batch_size", type=array_size, help=f"images per batch {paper('batch_size')}")
    group.add_argument("--labeled_bs", type=array_size, help=f"labelled images per batch {paper('labeled_bs')}")
    group.add_argument(
        "--base_lr", type=positive_number, default=0.01, help="constant learning rate of SGD (default: %(default)s)"
    )
    group.add_argument("--seed", type=seed_number, default=1337, help="random seed (default: %(default)s)")
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="use deterministic CUDA algorithms where PyTorch has them; runs on a CPU are always reproducible "
        "(default: off)",
    )

    group = parser.add_argument_group("speed (by default everything is computed in float32, as in the papers)")
    group.add_argument(
        "--fast",
        action="store_true",
        help="what was measured to be fastest: on CUDA bf16, --channels_last, --fused, --cuda_graphs, in 2-D --compile "
        "too; on a CPU --channels_last in 2-D, and bf16 where the processor has AMX or AVX512-BF16 (default: off)",
    )
    group.add_argument(
        "--amp",
        choices=("off", "fp16", "bf16"),
        default="off",
        help="mixed precision for the networks in training; losses stay in float32 (default: %(default)s)",
    )
    group.add_argument(
        "--channels_last", action="store_true", help="store the networks in channels-last memory format (default: off)"
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the objective with torch.compile; the first step takes a minute or more (default: off)",
    )
    group.add_argument(
        "--cuda_graphs",
        action="store_true",
        help="launch a step's kernels together, as CUDA graphs: PyTorch's own, or with --compile the compiled ones "
        "(default: off)",
    )
    group.add_argument("--fused", action="store_true", help="use fused SGD, needs PyTorch 2.4 or newer (default: off)")
    group.add_argument(
        "--data_on",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="where the training data is stored and augmented; auto: on the GPU if there is one and the data fits into "
        "a quarter of its free memory, otherwise on the CPU by --num_workers processes (default: %(default)s)",
    )
    group.add_argument(
        "--profile",
        action="store_true",
        help="print the time spent per stage at the end; synchronises the device after each stage (default: off)",
    )


def add_run_flags(parser: argparse.ArgumentParser, presets: Mapping[str, dict], val_start: bool = False) -> None:
    """Flags that name a run, place it and time its records."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--preset",
        choices=tuple(presets),
        metavar="NAME",
        help="a baseline or ablation, listed below: a set of flag values; explicit flags take precedence and need "
        "--exp (default: the full method)",
    )
    group.add_argument("--exp", type=part_of_name, help="suffix of the run folder's name (default: the preset's name)")
    group.add_argument(
        "--output_dir", type=new_folder, default="runs", help="folder for the runs' folders (default: %(default)s)"
    )
    group.add_argument(
        "--gpu",
        type=not_negative,
        metavar="N",
        help="CUDA device (default: the first one, or the CPU without one; CUDA_VISIBLE_DEVICES= hides all)",
    )
    group.add_argument(
        "--num_workers",
        type=worker_count,
        default=min(2, usable_cores()),
        help="number of processes that load and augment data; 0: the training process does it (default: 2, or 1 on "
        "a single core)",
    )
    group.add_argument(
        "--val_interval", type=positive, default=200, help="iterations between validations (default: %(default)s)"
    )
    group.add_argument(
        "--save_interval", type=positive, default=200, help="iterations between checkpoints (default: %(default)s)"
    )
    group.add_argument(
        "--log_interval",
        type=positive,
        default=20,
        help="iterations between records; the console shows every tenth (default: %(default)s)",
    )
    group.add_argument(
        "--time_limit",
        type=minutes,
        metavar="MINUTES",
        help="after this time save a checkpoint and end with exit code 3; rerun the same command to resume (default: "
        "none)",
    )
    group.add_argument(
        "--accept_code_change",
        action="store_true",
        help="resume a run that was started with other code; noted in config.json and in tables (default: refuse)",
    )
    if val_start:
        group.add_argument(
            "--val_start", type=positive, help="iteration of the first validation (default: 800 in 3-D, 200 in 2-D)"
        )


def parse(
    parser: Parser, presets: Mapping[str, dict], argv: Optional[Sequence[str]], defaults: Mapping[int, Mapping]
) -> argparse.Namespace:
    """Parse, with the values of the paper for the dataset and of the preset as defaults; check flags together."""
    first, given = parser.parse_args(argv), parser.given(argv)
    info = named_dataset(first, tuple(defaults))
    preset = presets.get(first.preset, {})
    for flag, value in preset.items():
        if given.get(flag, value) != value and not first.exp:
            parser.error(
                f"--preset {first.preset} sets --{flag} {value}, not {given[flag]}: leave one out, or name the "
                "variant with --exp"
            )
    protocol = {"protocol": "paper"} if info.name in DATASETS else {}  # else load_training_data finds out
    parser.set_defaults(**{**protocol, **defaults[info.dims], **preset})
    args = parser.parse_args(argv)
    args.name = info.name
    for flag, reason in unused_flags(vars(args), info.dims).items():
        if flag in given:
            parser.error(f"--{flag}: {reason}; leave --{flag} out")
    try:
        check_network(args.net, info.dims)
    except ValueError as error:
        parser.error(f"--net: {error}")
    if args.labeled_bs >= args.batch_size:
        parser.error(
            f"--labeled_bs {args.labeled_bs} must be less than --batch_size {args.batch_size}: "
            "the rest of the batch is unlabelled"
        )
    if args.patch_size and len(args.patch_size) != info.dims:
        parser.error(f"--patch_size {' '.join(map(str, args.patch_size))}: {info.name} needs {info.dims} numbers")
    check_patch_size(parser, args.patch_size)
    return args


def preset_help(presets: Mapping[str, dict]) -> str:
    """The presets and their flags, for a parser's epilog."""
    lines = ["presets:"]
    for name, values in presets.items():
        lines.append(f"  {name:<16} " + " ".join(f"--{flag} {value}" for flag, value in values.items()))
    return "\n".join(lines)
