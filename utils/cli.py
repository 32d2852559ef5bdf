"""The flags that the training scripts share, what a flag's value may be, and how a script ends on bad input."""

from __future__ import annotations

import argparse
import functools
import math
import os
import re
import sys
from pathlib import Path
from typing import Callable, NoReturn, Optional, Sequence

from dataloaders.files import InputError, did_you_mean
from dataloaders.registry import ALIASES, DATASETS, DatasetInfo, get_dataset
from utils.runs.lock import release


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line; every flag's help shows its default."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        for before, text in zip(["the command line", *args], args):
            if not text or text.endswith("=") and text.startswith("--"):
                self.error(f"{text[:-1] or before}: a value is empty, perhaps a variable of the shell that is not set")
        return super().parse_known_args(args, namespace)

    def given(self, argv: Optional[Sequence[str]]) -> dict:
        """The flags that were typed, with their values: without the defaults of the others."""
        unset = object()
        names = [action.dest for action in self._actions if action.dest != "help"]
        values = vars(self.parse_args(argv, argparse.Namespace(**dict.fromkeys(names, unset))))
        return {name: value for name, value in values.items() if value is not unset}

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--\w+)", message)
        if unknown:
            message += did_you_mean(unknown.group(1), self._option_string_actions)
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def one_line_errors(main: Callable) -> Callable:
    """Decorate a script's main(argv): an InputError becomes one line on stderr and exit code 2.

    A run that diverged (FloatingPointError) or found no memory ends the same way with exit code 1, Ctrl-C with 130.
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
        except (MemoryError, RuntimeError) as error:
            text = str(error).split("\n")[0]
            if not isinstance(error, MemoryError) and "out of memory" not in text and "allocate memory" not in text:
                raise
            print(f"error: not enough memory, use smaller batches or patches ({text})", file=sys.stderr)
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


def checked(convert: Callable, allowed: Callable, wanted: str) -> Callable:
    """An argparse type: what `convert` makes of the text, an error that says `wanted` where that is not `allowed`."""

    def parse_value(text: str):
        try:
            value = convert(text)
        except (ValueError, OverflowError):
            pass
        else:
            if allowed(value):
                return value
        raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")

    return parse_value


def whole(least: int, most: int = 10**9) -> Callable:
    """An argparse type: a whole number in this range."""
    return checked(int, lambda value: least <= value <= most, f"a whole number from {least:,} to {most:,}")


def number_or_whole(number):
    """A float, or an int where it is whole: 200 stays 200 in config.json."""
    value = float(number)
    return int(value) if value.is_integer() else value


positive, not_negative = whole(1), whole(0)
seed_number = whole(0, 2**32 - 1)  # what NumPy takes
worker_count = whole(0, 512)
array_size = whole(1, 2**16)  # of a batch, a side, a ring; larger values are typos that no memory could hold
positive_number = checked(float, lambda value: 0 < value < math.inf, "a number above 0")
voxel_size = checked(float, lambda value: 1e-3 <= value <= 1e3, "a size in mm from 0.001 to 1000")
loss_weight = checked(float, lambda value: 0 <= value < math.inf, "a number of at least 0")
minutes = checked(float, lambda value: 0 < value < math.inf, "more than 0 minutes")
below_one = checked(float, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")
ramp_length = checked(number_or_whole, lambda value: 0 <= value < math.inf, "a number of at least 0")
part_of_name = checked(
    str,
    re.compile(r"(?!.*\.\.)[A-Za-z0-9._-]{1,100}").fullmatch,
    "part of a folder's name: up to 100 letters, digits, '.', '_' and '-', without '..'",
)


def new_folder(text: str) -> str:
    """An argparse type: the path of a folder that exists or can be made."""
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text} is a file, name a folder")
    return _can_be_made(text)


def new_file(text: str) -> Path:
    """An argparse type: the path of a file to write."""
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text} is a folder, name a file")
    return Path(_can_be_made(text))


def _can_be_made(text: str) -> str:
    path = Path(text).absolute()
    nearest = next(place for place in (path, *path.parents) if os.path.exists(place))
    if nearest != path and not nearest.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: no permission to write in {nearest}")
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise argparse.ArgumentTypeError(f"{text}: a name is longer than 255 bytes")
    return text


def dataset_names(dims: Sequence[int]) -> list[str]:
    """The names of the published datasets of these dimensions."""
    names = [name for dim in dims for name, info in DATASETS.items() if info.dims == dim]
    return names + [alias for alias, name in ALIASES.items() if name in names]


def add_name_flag(parser: argparse._ActionsContainer, dims: Sequence[int], required: bool = False) -> None:
    """--name, for datasets of these dimensions; `named_dataset` reads it."""
    names = dataset_names(dims)
    default = {"required": True} if required else {"default": names[0]}
    parser.add_argument(
        "--name",
        "--dataset_name",
        metavar="NAME",
        **default,
        help=f"dataset: {', '.join(names)} or the name of a custom one "
        f"({'required' if required else 'default: %(default)s'})",
    )


def named_dataset(args: argparse.Namespace, dims: Sequence[int]) -> DatasetInfo:
    """The dataset that --name and --root_path say; raises InputError for one of other dimensions."""
    info = get_dataset(args.name, args.root_path)
    if info.dims not in dims:
        spc = "train_Ours_MT.py, train_Ours_BCP.py, " if info.dims == 2 else ""
        scripts = f"{spc}train_DuCiSC.py, test_{info.dims}d.py"
        raise InputError(f"--name {args.name}: a {info.dims}-D dataset; the scripts for it are {scripts}")
    return info


def check_patch_size(parser: Parser, patch_size: Optional[Sequence[int]], flag: str = "patch_size") -> None:
    """End with an error where a side of --patch_size, if it is given, does not suit the networks."""
    if patch_size and any(size % 16 for size in patch_size):
        parser.error(f"--{flag} {' '.join(map(str, patch_size))}: each must be divisible by 16")
