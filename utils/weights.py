"""Reading weights of this repository and of the family it belongs to. Never a pickle that runs code."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from dataloaders.errors import InputError
from utils.checkpoints import load_tensors

# Under these names the field's checkpoints keep the network's state beside other things.
WRAPPERS = ("net", "state_dict", "model", "model_state_dict", "student")


class Weights(NamedTuple):
    """A network's state and what the file says beside it (method, dataset, iteration, ...; empty in foreign files)."""

    state: dict
    meta: dict


def load_weights(path: Path) -> Weights:
    """The weights in a file: a plain state dict or a wrapper of one; `module.` prefixes are dropped.

    Raises InputError for a file that is damaged, needs code to load, or holds no tensors by name.
    """
    data = load_tensors(path)
    meta = {}
    if isinstance(data, dict):
        for name in WRAPPERS:
            if isinstance(data.get(name), dict):
                meta = {key: value for key, value in data.items() if key != name}
                data = data[name]
                break
    if not isinstance(data, dict) or not data or not all(isinstance(value, torch.Tensor) for value in data.values()):
        raise InputError(f"{path}: no network's weights in it (a state dict, or one under {', '.join(WRAPPERS)})")
    state = {name[len("module.") :] if name.startswith("module.") else name: value for name, value in data.items()}
    return Weights(state, meta)


def infer_network(state: dict, path: Path) -> tuple[str, int]:
    """The network of a state dict, by its names: (net_type, dims). Raises InputError for another family's."""
    if "encoder.in_conv.conv_conv.0.weight" in state:
        return ("unet_proj" if "proj_head.0.weight" in state else "unet"), 2
    if "block_one.conv.0.weight" in state:
        dims = state["block_one.conv.0.weight"].ndim - 2
        return ("ducisc" if "out_conv_4.weight" in state else "vnet"), dims
    raise InputError(f"{path}: not a network known here (its first parameter: {next(iter(state))})")


def fit_weights(net: torch.nn.Module, state: dict, path: Path) -> None:
    """Load `state` into `net`, all of it; raises InputError that names the first parameters that do not fit."""
    fitting, lacking, unused = compare(net, state)
    if lacking or unused:
        wrong = list(dict.fromkeys(lacking + unused))
        raise InputError(
            f"{path}: {len(wrong)} of {len(fitting) + len(lacking)} parameters do not fit this network "
            f"({', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}); is it of another method or dataset?"
        )
    net.load_state_dict(state)


def load_what_fits(net: torch.nn.Module, state: dict, path: Path) -> tuple[bool, str]:
    """Load those parameters of `state` that fit; returns whether all did, and a line that says what was loaded.

    Raises InputError where none fits.
    """
    fitting, lacking, unused = compare(net, state)
    if not fitting:
        raise InputError(f"{path}: none of its {len(state)} parameters fits this network; is it of another method?")
    net.load_state_dict({name: state[name] for name in fitting}, strict=False)
    line = f"{path}: loaded {len(fitting)} of {len(fitting) + len(lacking)} parameters"
    for what, names in (("left as initialised", lacking), ("not used", unused)):
        if names:
            line += f"; {what}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
    return not lacking, line


def compare(net: torch.nn.Module, state: dict) -> tuple[list[str], list[str], list[str]]:
    """Names of the state dict that fit the network, that it lacks, and that are of no use to it."""
    own = net.state_dict()
    fitting = [name for name in own if name in state and own[name].shape == state[name].shape]
    return fitting, [name for name in own if name not in fitting], [name for name in state if name not in fitting]
