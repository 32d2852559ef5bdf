"""Reading weights of this repository and of the family it belongs to. Never a pickle that runs code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Sequence

import torch

from dataloaders.files import InputError
from dataloaders.info import Preparation
from dataloaders.registry import DATASETS, DatasetInfo, get_dataset
from networks.net_factory import NETWORKS, net_factory
from utils.runs.checkpoints import load_tensors

# Under these names the field's checkpoints keep the network's state next to other things.
WRAPPERS = ("net", "state_dict", "model", "model_state_dict", "student")


@dataclass(frozen=True)
class WeightsFile:
    """A weights file as it states itself: the network's state and, in files of this repository, what it belongs to."""

    path: Path
    state: dict
    meta: dict  # in addition to the state: method, iteration, val_dice, selection, note, opt, ...
    network: Optional[str]  # its name in NETWORKS, None in a foreign file
    dataset: dict  # name, dims, classes, patch_size and more; empty in a foreign file

    @classmethod
    def read(cls, path: Path) -> WeightsFile:
        """A plain state dict or a wrapper of one; `module.` prefixes are dropped.

        Raises InputError for a file that is damaged, needs code to load, or holds no tensors by name.
        """
        data, meta = load_tensors(path), {}
        if isinstance(data, dict):
            for name in WRAPPERS:
                if isinstance(data.get(name), dict):
                    meta = {key: value for key, value in data.items() if key != name}
                    data = data[name]
                    break
        if not isinstance(data, dict) or not data or not all(map(torch.is_tensor, data.values())):
            raise InputError(f"{path}: no network's weights in it (a state dict, or one under {', '.join(WRAPPERS)})")
        state = {name[len("module.") :] if name.startswith("module.") else name: value for name, value in data.items()}
        dataset = meta.get("dataset")
        complete = isinstance(dataset, dict) and {"name", "dims", "classes", "patch_size"} <= dataset.keys()
        return cls(path, state, meta, meta.get("network"), dataset if complete else {})

    @property
    def preparation(self) -> Optional[Preparation]:
        """How the training's images were made from scans, None where it is not stated; InputError where unknown."""
        stated = self.dataset.get("preparation")
        try:
            return Preparation.from_json(json.dumps(stated)) if stated else None
        except (InputError, TypeError) as error:
            raise InputError(f"{self.path}: records an unknown preparation ({error})") from error

    def check_name(self, name: Optional[str]) -> None:
        """Raise InputError for weights that state another dataset than the one named."""
        if self.dataset and name not in (None, self.dataset["name"]):
            stated = self.dataset["name"]
            raise InputError(
                f"{self.path}: weights of {stated}, not of {name}: use test_{self.dataset['dims']}d.py --name {stated}"
            )

    def info(
        self, name: Optional[str], root_path: Optional[str] = None, patch_size: Optional[Sequence[int]] = None
    ) -> DatasetInfo:
        """What the weights were trained on, as the file states it; the dataset's folder and lists are not needed.

        A foreign file states nothing: then `name` is the dataset's, a custom one's folder `root_path` or under
        $DATASET_HOME, with its own patch size unless `patch_size` is given. Raises InputError if neither file nor
        `name` names the dataset, and if they disagree.
        """
        stated = self.dataset
        if not stated:
            if name is None:
                raise InputError(f"{self.path}: does not record its dataset; name it with --name (best.pth records it)")
            info = get_dataset(name, root_path)
            return replace(info, patch_size=tuple(patch_size or info.patch_size))
        self.check_name(name)
        if patch_size and list(patch_size) != list(stated["patch_size"]):
            raise InputError(f"{self.path}: trained with the patch size {stated['patch_size']}; leave --patch_size out")
        known = DATASETS.get(stated["name"])
        stride = stated.get("stride") or (known.stride if known else None)
        return DatasetInfo(
            name=stated["name"],
            dims=stated["dims"],
            classes=tuple(stated["classes"]),
            patch_size=tuple(stated["patch_size"]),
            stride=tuple(stride or (0, 0)),
            folders=(),
            volume_paths=(),
            protocols={},
            labelnum_unit="",
        )

    def build_network(self, info: DatasetInfo) -> torch.nn.Module:
        """The stated network, or the one whose parameters these are, with `info`'s classes, on the CPU.

        Raises InputError for a network that is not registered, and for weights of another kind.
        """
        family = family_of(self.state)
        if self.network in NETWORKS:
            family = self.network, self.dataset.get("dims", info.dims)
        if family is None:
            what = f"not a known network (its first parameter: {next(iter(self.state))})"
            if self.network:
                what = f"weights of the network '{self.network}', which is not in networks/net_factory.py"
            raise InputError(f"{self.path}: {what}")
        net_type, dims = family
        if dims != info.dims:
            raise InputError(f"{self.path}: weights of a {dims}-D network, {info.name} is {info.dims}-D")
        net = net_factory(net_type, 1, info.num_classes, dims)
        fit_weights(net, self.state, self.path)
        return net


def state_hash(net: torch.nn.Module) -> str:
    """SHA-256 of a network's weights: equal for equal networks, whatever file they come from."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def family_of(state: dict) -> Optional[tuple[str, int]]:
    """The network and the dimension that the parameters' names tell, None for another family's."""
    if "encoder.in_conv.conv_conv.0.weight" in state:
        if "decoder1.out_conv1.weight" in state:
            return "unet_ds", 2
        return ("unet_proj" if "proj_head.0.weight" in state else "unet"), 2
    if "block_one.conv.0.weight" in state:
        dims = state["block_one.conv.0.weight"].ndim - 2
        return ("ducisc" if "out_conv_4.weight" in state else "vnet"), dims
    return None


def fit_weights(net: torch.nn.Module, state: dict, path: Path) -> None:
    """Load `state` into `net`, all of it; raises InputError that names the first parameters that do not fit."""
    fitting, lacking, unused = compare(net, state)
    if lacking or unused:
        wrong = list(dict.fromkeys(lacking + unused))
        raise InputError(
            f"{path}: {len(wrong)} of {len(fitting) + len(lacking)} parameters do not fit this network "
            f"({', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}); does it belong to another method or dataset?"
        )
    net.load_state_dict(state)


def load_what_fits(net: torch.nn.Module, state: dict, path: Path) -> tuple[bool, str]:
    """Load those parameters of `state` that fit; returns whether all did, and a line that says what was loaded.

    Raises InputError where none fits.
    """
    fitting, lacking, unused = compare(net, state)
    if not fitting:
        raise InputError(
            f"{path}: none of its {len(state)} parameters fits this network; does it belong to another method?"
        )
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
