"""The flags that the training scripts share, and how a script ends on bad input."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from typing import Callable, Mapping, NoReturn, Optional, Sequence

from dataloaders.datasets import ALIASES, DATASETS, DatasetInfo, get_dataset
from dataloaders.errors import InputError
from utils.folder_lock import release


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line; every flag's help shows its default."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def one_line_errors(main: Callable) -> Callable:
    """Decorate a script's main(argv): an InputError becomes one line on stderr and exit code 2.

    A run that diverged (FloatingPointError) ends the same way with exit code 1, Ctrl-C with 130.
    """

    @functools.wraps(main)
    def wrapper(argv: Optional[Sequence[str]] = None):
        try:
            return main(argv)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        except FloatingPointError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        except KeyboardInterrupt:
            print("interrupted; rerun the same command to resume", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # whoever read our output, such as head, has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        finally:
            release()

    return wrapper


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def not_negative(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def minutes(text: str) -> float:
    """An argparse type: a time of more than 0 minutes."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0 minutes, got {text}")
    return value


def dataset_names(dims: Sequence[int]) -> list[str]:
    """The names of the published datasets of these dimensions."""
    names = [name for dim in dims for name, info in DATASETS.items() if info.dims == dim]
    return names + [alias for alias, name in ALIASES.items() if name in names]


def add_name_flag(parser: argparse._ActionsContainer, dims: Sequence[int], required: bool = False) -> None:
    """--name, for datasets of these dimensions; `named_dataset` reads it."""
    names = dataset_names(dims)
    default = {"required": True} if required else {"default": names[0]}
    parser.add_argument(
        "--name", "--dataset_name", metavar="NAME", **default,
        help=f"dataset: {', '.join(names)} or your own's name ({'required' if required else 'default: %(default)s'})",
    )  # fmt: skip


def named_dataset(args: argparse.Namespace, dims: Sequence[int]) -> DatasetInfo:
    """The dataset that --name and --root_path say; raises InputError for one of other dimensions."""
    info = get_dataset(args.name, args.root_path)
    if info.dims not in dims:
        spc = "train_Ours_MT.py, train_Ours_BCP.py, " if info.dims == 2 else ""
        scripts = f"{spc}train_DuCiSC.py, test_{info.dims}d.py"
        raise InputError(f"--name {args.name}: a {info.dims}-D dataset; the scripts for it are {scripts}")
    return info


def add_data_flags(parser: argparse.ArgumentParser, dims: Sequence[int], labelnum: int) -> None:
    """Flags that say what is read. `dims`: the dimensions of the datasets that the script trains on."""
    group = parser.add_argument_group("data")
    add_name_flag(group, dims)
    group.add_argument(
        "--labelnum", type=int, default=labelnum,
        help="labelled part by the dataset's protocol: per cent for ACDC and Synapse, volumes for LA, Pancreas, IAN; "
        "not for your own (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--labeled_cases", type=positive, metavar="N",
        help="instead of --labelnum: label the first N cases (patients) of the training list (default: not used)",
    )  # fmt: skip
    group.add_argument("--root_path", help="the dataset's own folder (default: its name under $DATASET_HOME)")
    for role in ("train", "val", "test"):
        group.add_argument(f"--{role}_list", metavar="FILE", help=f"{role} list (default: the dataset's own)")
    group.add_argument(
        "--protocol", choices=("paper", "holdout"), default="paper",
        help="how the best weights are selected where there is no validation list: on the test list as the released "
        "programs do, or on unlabelled training cases held out (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--holdout_cases", type=positive, default=4, metavar="K",
        help="cases that --protocol holdout takes out of training (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--patch_size", type=positive, nargs="+" if len(dims) > 1 else dims[0], metavar="N",
        help="size of the network's input in array axis order, each divisible by 16 (default: the dataset's)",
    )  # fmt: skip


def add_training_flags(parser: argparse.ArgumentParser, defaults: Mapping[int, Mapping[str, int]]) -> None:
    """Flags of the shared loop. `defaults`: the paper's values by the data's dimension; `parse` puts them in."""

    def paper(flag: str) -> str:
        values = [
            f"{values[flag]}" + (f" in {dims}-D" if len(defaults) > 1 else "") for dims, values in defaults.items()
        ]
        return f"(default: {', '.join(values)}, the paper's)"

    group = parser.add_argument_group("training")
    group.add_argument("--max_iterations", type=positive, help=f"iterations {paper('max_iterations')}")
    group.add_argument("--batch_size", type=positive, help=f"images in a batch {paper('batch_size')}")
    group.add_argument("--labeled_bs", type=positive, help=f"labelled images in a batch {paper('labeled_bs')}")
    group.add_argument(
        "--base_lr", type=float, default=0.01, help="learning rate of SGD, constant (default: %(default)s)"
    )
    group.add_argument("--seed", type=not_negative, default=1337, help="seed of all draws (default: %(default)s)")
    group.add_argument(
        "--deterministic", action="store_true",
        help="deterministic algorithms on CUDA where torch has them; a CPU run repeats anyway (default: off)",
    )  # fmt: skip

    group = parser.add_argument_group("speed (the defaults give the papers' float32 numbers)")
    group.add_argument(
        "--fast", action="store_true",
        help="on CUDA --amp bf16 --channels_last --compile --fused, on a CPU --channels_last in 2-D (default: off)",
    )  # fmt: skip
    group.add_argument(
        "--amp", choices=("off", "fp16", "bf16"), default="off",
        help="mixed precision in the networks' training passes; losses stay float32 (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--channels_last", action="store_true", help="networks in channels-last memory layout (default: off)"
    )
    group.add_argument(
        "--compile", action="store_true",
        help="the objective by torch.compile; the first step takes a minute or more (default: off)",
    )  # fmt: skip
    group.add_argument("--fused", action="store_true", help="fused SGD, PyTorch 2.4 or newer (default: off)")
    group.add_argument(
        "--data_on", choices=("auto", "cpu", "gpu"), default="auto",
        help="where training data lies and is augmented; auto: on the GPU if there is one and the data takes at most "
        "a quarter of its free memory, else by --num_workers on the CPU (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--profile", action="store_true",
        help="say at the end where the time went; waits for the device at each part (default: off)",
    )  # fmt: skip


def add_run_flags(parser: argparse.ArgumentParser, presets: Mapping[str, dict], val_start: bool = False) -> None:
    """Flags that name a run, place it and time its records."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--preset", choices=tuple(presets), metavar="NAME",
        help="a baseline or ablation: a set of flag values; flags given besides win (default: the full method)",
    )  # fmt: skip
    group.add_argument("--exp", help="added to the run folder's name (default: the preset's name)")
    group.add_argument("--output_dir", default="runs", help="parent of the runs' folders (default: %(default)s)")
    group.add_argument(
        "--gpu", type=int, metavar="N", help="CUDA device (default: the first if there is any, else the CPU)"
    )
    group.add_argument(
        "--num_workers", type=not_negative, default=2,
        help="processes that load and augment; 0: none beside the training itself (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--val_interval", type=positive, default=200, help="iterations between validations (default: %(default)s)"
    )
    group.add_argument(
        "--save_interval", type=positive, default=200, help="iterations between checkpoints (default: %(default)s)"
    )
    group.add_argument(
        "--log_interval", type=positive, default=20, help="iterations between log rows (default: %(default)s)"
    )
    group.add_argument(
        "--time_limit", type=minutes, metavar="MINUTES",
        help="save a checkpoint and end with exit code 3 after so many minutes; the same command resumes (default: "
        "none)",
    )  # fmt: skip
    group.add_argument(
        "--accept_code_change", action="store_true",
        help="resume although the code has changed since; recorded in config.json and in tables (default: refused)",
    )  # fmt: skip
    if val_start:
        group.add_argument(
            "--val_start", type=positive, help="first iteration with a validation (default: 800 in 3-D, 200 in 2-D)"
        )


def parse(
    parser: argparse.ArgumentParser,
    presets: Mapping[str, dict],
    argv: Optional[Sequence[str]],
    defaults: Mapping[int, Mapping[str, int]],
) -> argparse.Namespace:
    """Parse, with the values of the paper for the dataset and of the preset as defaults; check flags together."""
    first = parser.parse_args(argv)
    info = named_dataset(first, tuple(defaults))
    parser.set_defaults(**{**defaults[info.dims], **presets.get(first.preset, {})})
    args = parser.parse_args(argv)
    args.name = info.name
    if args.labeled_bs >= args.batch_size:
        parser.error(
            f"--labeled_bs {args.labeled_bs} must be less than --batch_size {args.batch_size}: "
            "the rest of the batch is unlabelled"
        )
    if args.patch_size and len(args.patch_size) != info.dims:
        parser.error(f"--patch_size {' '.join(map(str, args.patch_size))}: {info.name} needs {info.dims} numbers")
    check_patch_size(parser, args.patch_size)
    return args


def check_patch_size(parser: argparse.ArgumentParser, patch_size: Optional[Sequence[int]]) -> None:
    """End with an error where a side of --patch_size, if it is given, does not suit the networks."""
    if patch_size and any(size % 16 for size in patch_size):
        parser.error(f"--patch_size {' '.join(map(str, patch_size))}: each must be divisible by 16")


def preset_help(presets: Mapping[str, dict]) -> str:
    """The presets and their flags, for a parser's epilog."""
    lines = ["presets:"]
    for name, values in presets.items():
        lines.append(f"  {name:<16} " + " ".join(f"--{flag} {value}" for flag, value in values.items()))
    return "\n".join(lines)
