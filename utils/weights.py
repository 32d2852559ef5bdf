"""Reading weights of this repository and of the family it belongs to. Never a pickle that runs code."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import torch

from dataloaders.datasets import DATASETS, DatasetInfo, get_dataset
from dataloaders.errors import InputError
from networks import net_factory
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


def dataset_of(
    weights: Weights,
    path: Path,
    name: Optional[str],
    root_path: Optional[str] = None,
    patch_size: Optional[Sequence[int]] = None,
) -> DatasetInfo:
    """What the weights were trained on, as the file describes it; the dataset's folder and lists are not needed.

    A foreign file states nothing: then `name` is the dataset's, an own one's folder `root_path` or under $DATASET_HOME,
    with its own patch or `patch_size`. Raises InputError where neither says it, and where both do and differ.
    """
    stated = stated_dataset(weights)
    if not stated:
        if name is None:
            raise InputError(f"{path}: does not state its dataset; name it with --name (a run's best.pth states it)")
        info = get_dataset(name, root_path)
        return replace(info, patch_size=tuple(patch_size or info.patch_size))
    check_name(stated, path, name)
    if patch_size and list(patch_size) != list(stated["patch_size"]):
        raise InputError(f"{path}: trained with the patch size {stated['patch_size']}; leave --patch_size out")
    known = DATASETS.get(stated["name"])
    stride = stated.get("stride") or (known.stride if known else None)
    return DatasetInfo(
        name=stated["name"], dims=stated["dims"], classes=tuple(stated["classes"]),
        patch_size=tuple(stated["patch_size"]), stride=tuple(stride or (0, 0)),
        folders=(), volume_paths=(), protocols={}, labelnum_unit="",
    )  # fmt: skip


def stated_dataset(weights: Weights) -> dict:
    """The description of the dataset in a weights file of this repository, empty for a foreign one."""
    stated = weights.meta.get("dataset")
    return stated if isinstance(stated, dict) and {"name", "dims", "classes", "patch_size"} <= stated.keys() else {}


def check_name(stated: dict, path: Path, name: Optional[str]) -> None:
    """Raise InputError for weights that state another dataset than the one named."""
    if stated and name not in (None, stated["name"]):
        raise InputError(f"{path}: weights of {stated['name']}, not of {name}; give its --name")


def build_network(weights: Weights, info: DatasetInfo, path: Path) -> torch.nn.Module:
    """The network of these weights with `info`'s classes, on the CPU; raises InputError for weights of another kind."""
    net_type, dims = infer_network(weights.state, path)
    if dims != info.dims:
        raise InputError(f"{path}: weights of a {dims}-D network, {info.name} is {info.dims}-D")
    net = net_factory(net_type, 1, info.num_classes, dims)
    fit_weights(net, weights.state, path)
    return net


def state_hash(net: torch.nn.Module) -> str:
    """SHA-256 of a network's weights: equal for equal networks, whatever file they come from."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def infer_network(state: dict, path: Path) -> tuple[str, int]:
    """The network of a state dict, by its names: (net_type, dims). Raises InputError for another family's."""
    if "encoder.in_conv.conv_conv.0.weight" in state:
        if "decoder1.out_conv1.weight" in state:
            return "unet_ds", 2
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
