"""A nest of dicts, lists, tuples, tensors and numbers as named arrays and plain JSON, and back: no pickle anywhere.

A tensor becomes a flat array under the path that leads to it and, in the JSON, its type and shape; what is neither
float32, float64, int64 nor uint8 travels as bytes. A container becomes an object that names its kind, so that a tuple
comes back as a tuple and a number that is a key stays a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from computation.errors import PeersError

__all__ = ["flatten", "restore"]

_PLAIN = (torch.float32, torch.float64, torch.int64, torch.uint8)


def flatten(nest: Any, path: str) -> tuple[dict[str, NDArray[Any]], Any]:
    """Take a nest apart.

    Parameters
    ----------
    nest : object
        Of dicts, lists, tuples, tensors, numbers, texts and nothings.
    path : str
        With which the arrays' names begin.

    Returns
    -------
    arrays : dict of str to numpy.ndarray
        One-dimensional copies: float32, float64, int64 or uint8.
    plain : object
        JSON.

    Raises
    ------
    PeersError
        If something else is in it.
    """
    arrays: dict[str, NDArray[Any]] = {}
    return arrays, _plain(nest, path, arrays)


def _plain(nest: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if nest is None or isinstance(nest, bool | int | float | str):
        return nest
    if isinstance(nest, Tensor):
        arrays[path] = _array(nest)
        return {"tensor": [path, str(nest.dtype).removeprefix("torch."), list(nest.shape)]}
    if isinstance(nest, list | tuple):
        kind = "tuple" if isinstance(nest, tuple) else "list"
        return {kind: [_plain(one, f"{path}.{place}", arrays) for place, one in enumerate(nest)]}
    if isinstance(nest, dict):
        return {"dict": [[key, _plain(one, f"{path}.{key}", arrays)] for key, one in nest.items()]}
    raise PeersError(f"a state holds a {type(nest).__name__}; wanted tensors, numbers, texts and containers of these")


def _array(tensor: Tensor) -> NDArray[Any]:
    flat = tensor.detach().cpu().reshape(-1)
    array: NDArray[Any] = (flat if flat.dtype in _PLAIN else flat.contiguous().view(torch.uint8)).numpy().copy()
    return array


def restore(plain: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Put a nest together again; its tensors are on the CPU.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError, RuntimeError
        If the two do not come from `flatten`.
    """
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "tensor":
        path, dtype, shape = content
        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        tensor.view(-1).view(torch.uint8).numpy()[:] = arrays[path].view(np.uint8)
        return tensor
    if kind == "dict":
        return {key: restore(one, arrays) for key, one in content}
    return {"list": list, "tuple": tuple}[kind](restore(one, arrays) for one in content)
