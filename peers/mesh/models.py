"""The models that can be asked for by name: built here from bounded numbers; no code ever comes from the network.

Each is a function from a checked configuration to a module. A provider's owner can install more (`Installed`).
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from computation.checks import parse_json
from computation.errors import PeersError
from computation.model import architecture, network
from peers.batches import Items, Shuffled
from peers.examples.unet import UNet
from peers.learners import Loss, ModuleLearner

__all__ = ["BYTES_PER_PARAMETER", "TYPES", "Model", "install", "learner", "model"]

#: Of a parameter while it is learnt: itself, its gradient and two moments, in float32.
BYTES_PER_PARAMETER = 16
_LONGEST = 4096

Make: TypeAlias = Callable[[Mapping[str, int]], nn.Module]


@dataclass(frozen=True)
class _Type:
    """A kind of model: its numbers with default, least and most, and what makes and judges it."""

    text: str
    numbers: Mapping[str, tuple[int, int, int]]
    make: Make
    loss: Loss


@dataclass(frozen=True)
class Model:
    """A model that was asked for, not yet made.

    Attributes
    ----------
    type : str
        A name from `TYPES`, or of an installed one.
    numbers : dict of int
        Its configuration, complete.
    """

    type: str
    numbers: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """How many it has; counted without taking memory for them."""
        with torch.device("meta"):
            return sum(one.numel() for one in TYPES[self.type].make(self.numbers).parameters())

    @property
    def classes(self) -> int:
        """Classes that it tells apart; 0 for a regression."""
        return self.numbers.get("classes", 0)

    def module(self, seed: int) -> nn.Module:
        """Make it, with weights from a seed."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return TYPES[self.type].make(self.numbers)


def model(type: str, configuration: str = "") -> Model:
    """Return a model by its name and its configuration in JSON; what is not given has its default.

    Raises
    ------
    PeersError
        If there is no such type or number, or one is out of range.
    """
    if type not in TYPES:
        raise PeersError(f"there is no model type {type[:40]!r} here; wanted one of {', '.join(TYPES)}")
    kinds = TYPES[type].numbers
    try:
        given = parse_json(configuration[:_LONGEST]) if configuration else {}
    except ValueError as error:
        raise PeersError("a model's configuration is no JSON; wanted an object of whole numbers", str(error)) from None
    if not isinstance(given, dict) or not given.keys() <= kinds.keys():
        raise PeersError(f"a model of type {type} was configured otherwise; it takes {', '.join(kinds) or 'nothing'}")
    for name, value in given.items():
        _, least, most = kinds[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise PeersError(f"{name} of a {type} is {str(value)[:40]}; wanted a whole number from {least} to {most}")
    return Model(type, {name: given.get(name, default) for name, (default, _, _) in kinds.items()})


def learner(
    asked: Model, items: Items, *, batch: int, rate: float, seed: int, name: str, steps: int = 0, device: str = "cpu"
) -> ModuleLearner:
    """Return what learns a model from some items: Adam, as in the report, on shuffled batches.

    Parameters
    ----------
    asked : Model
        The model.
    items : Items
        Inputs and targets.
    batch : int
        Items of a batch.
    rate : float
        Learning rate.
    seed : int
        Of the task; all begin with the same weights.
    name : str
        The peer's.
    steps : int
        Batches in a round; 0 for an epoch.
    device : str
        Where to compute.
    """
    module = asked.module(seed).to(device)
    optimiser = torch.optim.Adam(module.parameters(), rate)
    batches = Shuffled(items, batch, seed, name, steps)
    return ModuleLearner(module, optimiser, TYPES[asked.type].loss, batches, name=name, seed=seed)


def install(text: str) -> None:
    """Take in a model type of the provider's own: NAME=MODULE:FUNCTION of a package that is installed here.

    The function is called without anything and returns a module; its loss is the cross-entropy.

    Raises
    ------
    PeersError
        If it cannot be found.
    """
    name, _, rest = text.partition("=")
    module, _, function = rest.partition(":")
    try:
        made: Callable[[], nn.Module] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise PeersError(f"the model {text[:80]!r} cannot be found; wanted NAME=MODULE:FUNCTION", str(error)) from error
    TYPES[name] = _Type("installed here", {"classes": (10, 2, 1 << 16)}, lambda _: made(), nn.functional.cross_entropy)


def _meshnet(numbers: Mapping[str, int]) -> nn.Module:
    return network.MeshNet(
        architecture.named(f"meshnet-{numbers['depth']}x{numbers['width']}", classes=numbers["classes"])
    )


class _Residual(nn.Module):
    """Two convolutions and a way around them (He et al. 2016, arXiv 1512.03385, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        alike = stride == 1 and inputs == outputs
        self.around = (
            nn.Identity()
            if alike
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.relu(self.way(images) + self.around(images))


def _resnet18(numbers: Mapping[str, int]) -> nn.Module:
    """ResNet-18 with the stem for small pictures, `(N, channels, H, W)` to `(N, classes)`: table 1 of He et al."""
    width = numbers["width"]
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    blocks: list[nn.Module] = []
    for level, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        blocks += [_Residual(inputs, outputs, 1 if level == 0 else 2), _Residual(outputs, outputs, 1)]
    stem = [nn.Conv2d(numbers["channels"], width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, numbers["classes"])]
    return nn.Sequential(*stem, *blocks, *head)


def _simple_cnn(numbers: Mapping[str, int]) -> nn.Module:
    """Three convolutions and two dense layers, `(N, channels, side, side)` to `(N, classes)`.

    The report does not print its layers; these have its 1,147,466 parameters for pictures of 3 x 32 x 32.
    """
    widths = (numbers["channels"], 32, 64, 128)
    blocks: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    flat, hidden = widths[-1] * (numbers["side"] // 8) ** 2, numbers["hidden"]
    dense = [nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, numbers["classes"])]
    return nn.Sequential(*blocks, *dense)


def _unet(numbers: Mapping[str, int]) -> nn.Module:
    return UNet(numbers["channels"], numbers["width"], numbers["levels"])


_CLASSES, _CHANNELS = (10, 2, 1 << 16), (3, 1, 1 << 12)

TYPES: dict[str, _Type] = {
    "simple-cnn": _Type(
        "three convolutions, for pictures",
        {"channels": _CHANNELS, "side": (32, 8, 1 << 12), "hidden": (512, 1, 1 << 26), "classes": _CLASSES},
        _simple_cnn,
        nn.functional.cross_entropy,
    ),
    "resnet-18": _Type(
        "eighteen layers with ways around them, for pictures",
        {"channels": _CHANNELS, "width": (64, 1, 1 << 16), "classes": _CLASSES},
        _resnet18,
        nn.functional.cross_entropy,
    ),
    "unet": _Type(
        "one picture from many channels; squared error",
        {"channels": (97, 1, 1 << 12), "width": (32, 1, 1 << 16), "levels": (5, 2, 8)},
        _unet,
        nn.functional.mse_loss,
    ),
    "meshnet": _Type(
        "brain tissue from a volume",
        {"depth": (10, 1, 64), "width": (5, 1, 1 << 12), "classes": (3, 2, 1 << 10)},
        _meshnet,
        nn.functional.cross_entropy,
    ),
}
