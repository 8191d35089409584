"""The kernels as functions on tensors: contiguous NCDHW float32 or float64 on the CPU in, new tensors out.

One function per kernel; shapes are computed here, from tensors that `blocks.check` found consistent. The structures
mirror ``kernels.h``.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from computation.errors import DeviceError
from computation.model.native.loader import library, status
from computation.model.native.volumes import allocate, take

__all__ = [
    "ACTIVATIONS",
    "Gradients",
    "Pre",
    "affine_",
    "backward",
    "forward",
    "pointwise",
    "pointwise_backward",
    "scores",
    "scores_backward",
]

ACTIVATIONS = {"none": 0, "relu": 1, "elu": 2, "gelu": 3}
_Int, _Pointer = ctypes.c_int64, ctypes.c_void_p


def _fields(names: str, kind: type = _Pointer) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Conv(ctypes.Structure):
    _fields_ = _fields("batch in_ out depth height width dilation kernel activation threads", _Int)


class _Forward(ctypes.Structure):
    _fields_ = [("conv", _Conv), *_fields("input scale shift weight bias output moments")]


class _Backward(ctypes.Structure):
    _fields_ = [
        ("conv", _Conv),
        *_fields("grad output of_grad of_output constant input scale shift weight"),
        *_fields("grad_input mean rstd sums grad_weight grad_bias"),
    ]


class _Pointwise(ctypes.Structure):
    _fields_ = [
        *_fields("batch channels voxels activation threads", _Int),
        *_fields("input scale shift grad output mean rstd sums"),
    ]


class _Affine(ctypes.Structure):
    _fields_ = [
        *_fields("batch channels voxels threads", _Int),
        *_fields("target other of_grad of_output constant"),
    ]


class _Scores(ctypes.Structure):
    _fields_ = [
        *_fields("batch classes voxels threads", _Int),
        *_fields("scores labels sums of_sums grad"),
    ]


@dataclass(frozen=True)
class Pre:
    """What is applied to a stored tensor before it is used: ``activation(scale * x + shift)``.

    Parameters
    ----------
    scale, shift : Tensor
        (batch, channels), of the type of the stored tensor.
    mean, rstd : Tensor or None
        (batch, channels), the statistics behind them; None without normalisation.
    activation : str
        A key of `ACTIVATIONS`.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor | None
    rstd: Tensor | None
    activation: str


@dataclass(frozen=True)
class Gradients:
    """What `backward` returns; all but `input` are float64.

    Parameters
    ----------
    input : Tensor
        Gradient before the input's activation, (batch, in, D, H, W); without elements when it was not wanted.
    weight, bias : Tensor or None
        (out, in, k, k, k) and (out,).
    sums : Tensor
        (batch, in, 2): sums of `input` and of `input` times the normalised input; zero without statistics.
    """

    input: Tensor
    weight: Tensor | None
    bias: Tensor | None
    sums: Tensor


def forward(
    x: Tensor,
    pre: Pre | None,
    weight: Tensor,
    bias: Tensor | None,
    dilation: int,
    *,
    moments: bool,
    hidden: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Convolve ``pre(x)``, with zeros outside, and take the statistics of the result.

    Parameters
    ----------
    x : Tensor
        (batch, in, D, H, W).
    pre : Pre or None
        Normalisation and activation of `x`, applied on the way.
    weight, bias : Tensor
        (out, in, k, k, k) with k 1 or 3, and (out,) or None.
    dilation : int
        Also the padding, when k is 3.
    moments : bool
        Whether statistics are wanted.
    hidden : bool
        Whether the output may lie in used memory, to be given back; see `volumes`.

    Returns
    -------
    tuple
        The output (batch, out, D, H, W), and (batch, out, 2) float64: mean and sum of squared deviations.
    """
    out = take(x, weight.shape[0]) if hidden else allocate(x, weight.shape[0])
    found = torch.zeros(*out.shape[:2], 2, dtype=torch.float64) if moments else None
    keep = _contiguous(x, *_scaling(pre), weight, bias)
    _call("forward", x, _Forward(_conv(x, weight, dilation, pre), *map(_address, (*keep, out, found))))
    return out, found


def backward(
    grad: Tensor,
    affine: tuple[Tensor, Tensor, Tensor, Tensor] | None,
    x: Tensor,
    pre: Pre | None,
    weight: Tensor,
    dilation: int,
    *,
    needs: tuple[bool, bool, bool],
    hidden: bool = False,
) -> Gradients:
    """Differentiate `forward`.

    Parameters
    ----------
    grad : Tensor
        (batch, out, D, H, W).
    affine : tuple or None
        ``(output, a, b, c)``: the gradient at the output is ``a * grad + b * output + c``, with a, b, c of shape
        (batch, out); None: it is `grad`.
    x, pre, weight, dilation
        As in `forward`.
    needs : tuple of bool
        Whether the gradients of input, weight and bias are wanted.
    hidden : bool
        As in `forward`, for the gradient of the input.

    Returns
    -------
    Gradients
        With None where nothing was wanted.
    """
    make = take if hidden else allocate
    grad_x = make(x, x.shape[1]) if needs[0] else x.new_empty(0)
    sums = torch.zeros(*x.shape[:2], 2, dtype=torch.float64)
    grad_weight = torch.zeros(weight.shape, dtype=torch.float64) if needs[1] else None
    grad_bias = torch.zeros(weight.shape[0], dtype=torch.float64) if needs[2] else None
    keep = _contiguous(grad, *(affine or (None,) * 4), x, *_scaling(pre), weight)
    statistics = _contiguous(*_statistics(pre)) if needs[0] else (None, None)
    results = (grad_x if needs[0] else None, *statistics, sums, grad_weight, grad_bias)
    _call("backward", x, _Backward(_conv(x, weight, dilation, pre), *map(_address, (*keep, *results))))
    return Gradients(grad_x, grad_weight, grad_bias, sums)


def pointwise(x: Tensor, pre: Pre) -> Tensor:
    """Return ``pre(x)`` as a new tensor of the shape of `x`, (batch, channels, D, H, W)."""
    out = allocate(x, x.shape[1])
    keep = _contiguous(x, pre.scale, pre.shift)
    _call("pointwise", x, _Pointwise(*_sizes(x, pre), *map(_address, (*keep, None, out, None, None, None))))
    return out


def pointwise_backward(grad: Tensor, x: Tensor, pre: Pre) -> Gradients:
    """Differentiate `pointwise` up to the argument of the activation; `sums` as in `backward`."""
    out = take(x, x.shape[1])
    sums = torch.zeros(*x.shape[:2], 2, dtype=torch.float64)
    keep = _contiguous(x, pre.scale, pre.shift, grad)
    statistics = _contiguous(*_statistics(pre))
    _call("pointwise_backward", x, _Pointwise(*_sizes(x, pre), *map(_address, (*keep, out, *statistics, sums))))
    return Gradients(out, None, None, sums)


def affine_(target: Tensor, other: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
    """Overwrite the contiguous `target` with ``a * target + b * other + c``; a, b, c are (batch, channels)."""
    keep = _contiguous(other, a, b, c)
    sizes = (*_extent(target), torch.get_num_threads())
    _call("affine", target, _Affine(*sizes, _address(target), *map(_address, keep)))


def scores(x: Tensor, labels: Tensor) -> Tensor:
    """Return the softmax sums of `functional.class_sums`: (batch, classes, 5) float64."""
    sums = torch.zeros(*x.shape[:2], 5, dtype=torch.float64)
    keep = _contiguous(x, labels)
    _call("scores", x, _Scores(*_extent(x), torch.get_num_threads(), *map(_address, (*keep, sums, None, None))))
    return sums


def scores_backward(x: Tensor, labels: Tensor, of_sums: Tensor) -> Tensor:
    """Return the gradient of ``(of_sums * scores(x, labels)).sum()`` at `x`."""
    out = allocate(x, x.shape[1])
    x_, labels_, of_sums_ = _contiguous(x, labels, of_sums.to(x.dtype))
    sizes = (*_extent(x), torch.get_num_threads())
    _call("scores_backward", x, _Scores(*sizes, *map(_address, (x_, labels_, None, of_sums_, out))))
    return out


def _conv(x: Tensor, weight: Tensor, dilation: int, pre: Pre | None) -> _Conv:
    out, channels, kernel = weight.shape[:3]
    activation = ACTIVATIONS[pre.activation] if pre else 0
    return _Conv(x.shape[0], channels, out, *x.shape[2:], dilation, kernel, activation, torch.get_num_threads())


def _sizes(x: Tensor, pre: Pre) -> tuple[int, ...]:
    activation = ACTIVATIONS[pre.activation]
    return *_extent(x), activation, torch.get_num_threads()


def _scaling(pre: Pre | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if pre is None else (pre.scale, pre.shift)


def _statistics(pre: Pre | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if pre is None else (pre.mean, pre.rstd)


def _extent(x: Tensor) -> tuple[int, int, int]:
    """Return samples, channels and voxels."""
    return x.shape[0], x.shape[1], x[0, 0].numel()


def _contiguous(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(t if t is None or t.is_contiguous() else t.detach().contiguous() for t in tensors)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _call(name: str, like: Tensor, structure: ctypes.Structure) -> None:
    handle = library()
    if handle is None:
        raise DeviceError(status().reason)
    if getattr(handle, f"meshnet_{name}")(like.dtype == torch.float64, ctypes.addressof(structure)):
        raise DeviceError("a native kernel ran out of memory; use smaller sub-volumes or a machine with more memory")
