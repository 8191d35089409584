"""The tensor half of a message: one flat array in one file, read by a fixed schema.

Layout, little-endian, 192 bytes of header and then the values and nothing else::

    offset  bytes  field
    0       8      magic, "CXMESH" and the format version
    8       1      kind: 1 model, 2 contribution, 3 combination, 4 masked words
    9       1      dtype: 1 float32, 2 float64, 3 whole numbers modulo 2^64
    10      2      zero
    12      4      round, unsigned
    16      8      number of values, unsigned
    24      32     SHA-256 of the manifest (names and shapes, in order)
    56      32     SHA-256 of the model that the values were computed on; zero for a model itself
    88      32     SHA-256 of the id of the site that wrote it; zero for the centre
    120     32     SHA-256 of the run's name
    152     32     SHA-256 of the 152 bytes above and the values
    184     8      zero

The names and shapes travel once, as a digest: both ends build them from the architecture. There is no pickle, no type
name and no length that the reader trusts, so the only outcomes of reading are a finite array or a `PayloadError`. Site,
run and round tell a file that was copied from another place. The digest is no signature, but the sender signs it with
the message that the file goes with; see `messages.seal`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from computation.errors import InfinitePayloadError, PayloadError, unwritable
from computation.files import plain, replacing

__all__ = [
    "COMBINATION",
    "CONTRIBUTION",
    "HEADER_BYTES",
    "MASKED",
    "MODEL",
    "PREFIX",
    "Manifest",
    "Payload",
    "Shapes",
    "Vector",
    "decode",
    "digest",
    "dtype_of",
    "encode",
    "length",
    "read",
    "write",
]

#: A flat array of model values: float32, or float64 when the settings ask for it.
Vector = npt.NDArray[np.floating]

#: Every file that travels starts with this, so that it can never overwrite a site's own file.
PREFIX = "__cx_"

MODEL, CONTRIBUTION, COMBINATION, MASKED = 1, 2, 3, 4
HEADER_BYTES = 192
_MAGIC = b"CXMESH\x00\x02"
_FIELDS = struct.Struct("<8sBBHIQ32s32s32s32s")
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<u8")}
_CODES: dict[np.dtype[Any], int] = {dtype: code for code, dtype in _DTYPES.items()}
#: Larger than any MeshNet by three orders of magnitude; a manifest above it is hostile.
_MOST_VALUES = 1 << 28


@dataclass(frozen=True)
class Manifest:
    """Names and shapes of the arrays that one flat vector holds, in order.

    Parameters
    ----------
    entries : tuple of (str, tuple of int)
        Name and shape of each array.

    Raises
    ------
    PayloadError
        If a name occurs twice, a side is negative, or the whole is absurdly large.
    """

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PayloadError(f"the manifest names {twice[0]!r} twice; wanted each array once")
        if any(side < 0 for _, shape in self.entries for side in shape) or self.size > _MOST_VALUES:
            raise PayloadError(f"the manifest describes an array that cannot be; wanted at most {_MOST_VALUES} values")

    @cached_property
    def size(self) -> int:
        """Number of values in the flat vector."""
        return sum(math.prod(shape) for _, shape in self.entries)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each array lies in the flat vector."""
        ends = list(accumulate(math.prod(shape) for _, shape in self.entries))
        return {name: slice(end - math.prod(shape), end) for (name, shape), end in zip(self.entries, ends, strict=True)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names and shapes, in hexadecimal."""
        text = json.dumps([[name, list(shape)] for name, shape in self.entries], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Shapes(Protocol):
    """What a reader must know of a manifest; a centre's other half knows no more than this of it."""

    @property
    def digest(self) -> str:
        """SHA-256 of names and shapes, in hexadecimal."""
        ...

    @property
    def size(self) -> int:
        """Number of values in the flat vector."""
        ...


@dataclass(frozen=True)
class Payload:
    """One flat array on its way.

    Attributes
    ----------
    kind : int
        `MODEL`, `CONTRIBUTION` or `COMBINATION`.
    round : int
        Round it belongs to, from 1; 0 for the initial model.
    manifest : Manifest
        What the values are.
    values : numpy.ndarray
        Shape `(manifest.size,)`, float32 or float64.
    model : str
        Digest of the model that the values were computed on; empty for a model.
    site : str
        Id of the site that writes it; empty for the centre.
    run : str
        Name of the run.
    """

    kind: int
    round: int
    manifest: Manifest
    values: Vector
    model: str = ""
    site: str = ""
    run: str = ""


def digest(manifest: Manifest, values: Vector) -> str:
    """Return the SHA-256 digest of a model: its manifest, its dtype and its values, bit for bit."""
    sha = hashlib.sha256(bytes.fromhex(manifest.digest) + values.dtype.str.encode())
    sha.update(np.ascontiguousarray(values).data)
    return sha.hexdigest()


def write(path: Path, payload: Payload) -> str:
    """Write a payload so that a half-written file never carries its name.

    Parameters
    ----------
    path : Path
        Where; its name starts with `PREFIX`. The file is readable by all, since the platform packs it as another user.
    payload : Payload
        What.

    Returns
    -------
    str
        The SHA-256 that its header carries, in hexadecimal: whoever signs it signs the whole file.

    Raises
    ------
    PayloadError
        If the folder is full or may not be written; nothing is left behind.
    """
    pieces = _pieces(payload)
    try:
        _write_whole(path, pieces)
    except OSError as error:
        raise PayloadError(unwritable("transfer"), f"{path}: {error}") from error
    return pieces[0][_FIELDS.size : _FIELDS.size + 32].hex()


def encode(payload: Payload) -> bytes:
    """Return a payload's bytes, as `write` writes them."""
    return b"".join(_pieces(payload))


def _pieces(payload: Payload) -> tuple[bytes, memoryview]:
    values = np.ascontiguousarray(payload.values)
    head = _FIELDS.pack(
        _MAGIC,
        payload.kind,
        _CODES[values.dtype],
        0,
        payload.round,
        values.size,
        bytes.fromhex(payload.manifest.digest),
        bytes.fromhex(payload.model or "00" * 32),
        _mark(payload.site),
        _mark(payload.run),
    )
    check = hashlib.sha256(head)
    check.update(values.data)
    return head + check.digest() + bytes(8), values.data.cast("B")


def _mark(name: str) -> bytes:
    """Return a name of any length as 32 bytes; zero where there is none."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() if name else bytes(32)


def _write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    # The temporary name carries the prefix too: what a crash leaves behind may travel and must harm nobody.
    named = path.with_name(f"{PREFIX}partial-{os.getpid()}")
    with replacing(path, named) as partial, partial.open("wb") as file:
        file.writelines(pieces)
        os.fchmod(file.fileno(), 0o644)


def read(
    path: Path,
    *,
    kind: int,
    round: int,
    manifest: Manifest,
    dtype: type[np.floating] | np.dtype[np.floating],
    model: str = "",
    site: str = "",
    run: str = "",
    signed: str = "",
    mapped: bool = False,
) -> Vector:
    """Read a payload that must be exactly what the reader expects.

    Parameters
    ----------
    path : Path
        A regular file; links are refused.
    kind, round, manifest, dtype, model, site, run
        What it must be; see `Payload`.
    signed : str
        What `write` returned at its sender, who signed it; empty where nobody did.
    mapped : bool
        Whether the values stay in the file, so that many payloads at once take no memory: for a reader whose file
        nobody changes while the values are in use.

    Returns
    -------
    numpy.ndarray
        Shape `(manifest.size,)`, finite, read-only.

    Raises
    ------
    PayloadError
        If the file is missing, of another length, type, site, run, round, model or manifest, altered, or not finite.
        The message says which.
    """
    blob = _read_exactly(path, length(manifest, dtype), mapped)
    wanted: dict[str, Any] = {"kind": kind, "round": round, "manifest": manifest, "dtype": dtype}
    return decode(blob, **wanted, model=model, site=site, run=run, signed=signed)


def length(manifest: Manifest, dtype: npt.DTypeLike) -> int:
    """Return the exact size of a payload file in bytes."""
    return HEADER_BYTES + manifest.size * np.dtype(dtype).itemsize


def dtype_of(precision: str) -> np.dtype[np.floating]:
    """Return in which number format values travel under a run's setting `precision`."""
    return np.dtype(np.float64 if precision == "float64" else np.float32)


def decode(
    blob: bytes | mmap,
    *,
    kind: int,
    round: int,
    manifest: Shapes,
    dtype: type[np.floating] | np.dtype[np.floating],
    model: str = "",
    site: str = "",
    run: str = "",
    signed: str = "",
) -> Vector:
    """Read a payload from its bytes, which have the right length; parameters, result and errors as for `read`."""
    wanted: np.dtype[np.floating] = np.dtype(dtype).newbyteorder("<")
    magic, seen_kind, code, _, seen_round, count, seen_manifest, seen_model, *marks = _FIELDS.unpack_from(blob)
    _expect("format", magic, _MAGIC)
    if marks[0] != _mark(site):
        raise PayloadError("the payload is another node's, copied; wanted one that its sender wrote")
    if marks[1] != _mark(run):
        raise PayloadError("the payload is of another run; wanted this one's")
    _expect("kind", seen_kind, kind)
    _expect("dtype", code, _CODES[wanted])
    _expect("round", seen_round, round)
    _expect("number of values", count, manifest.size)
    _expect("shapes", seen_manifest.hex(), manifest.digest)
    _expect("model", seen_model.hex(), model or "00" * 32)
    check = hashlib.sha256(blob[: _FIELDS.size])
    check.update(memoryview(blob)[HEADER_BYTES:])
    if check.digest() != blob[_FIELDS.size : _FIELDS.size + 32] or any(blob[_FIELDS.size + 32 : HEADER_BYTES]):
        raise PayloadError("the payload was altered on its way: its SHA-256 does not match; send it again")
    if signed and check.hexdigest() != signed:
        raise PayloadError("the payload is not the one that its sender signed; wanted that one, as it was written")
    values: Vector = np.frombuffer(blob, dtype=wanted, offset=HEADER_BYTES)
    if not np.isfinite(values).all():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        found = f"the payload holds {bad} values that are NaN or infinite"
        raise InfinitePayloadError(f"{found}; wanted finite numbers only")
    return values


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise PayloadError(f"the payload is of another {what}: {_brief(seen)}; wanted {_brief(wanted)}")


def _brief(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 16 else repr(value)


def _read_exactly(path: Path, length: int, mapped: bool) -> bytes | mmap:
    """Read a regular file of exactly `length` bytes, never more, following no link."""
    blob: bytes | mmap = b""
    try:
        with plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size == length:
                blob = mmap(file.fileno(), length, access=ACCESS_READ) if mapped else file.read(length)
    except FileNotFoundError:
        raise PayloadError("the payload did not arrive; wanted one file", str(path)) from None
    except OSError as error:
        raise PayloadError("the payload cannot be opened; wanted a plain file", f"{path}: {error}") from None
    if len(blob) != length:
        size = len(blob) if size == length else size
        fault = "truncated" if size < length else "oversized"
        raise PayloadError(f"the payload is {fault}: {size} bytes; wanted {length}", str(path))
    return blob
