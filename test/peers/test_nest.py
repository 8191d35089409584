"""Nests as arrays and JSON, and back."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import PeersError
from peers import nest

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5)
KEYS = st.integers(0, 9) | st.text("abc", max_size=3)
NESTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@given(NESTS)
def test_plain_nests_come_back(whole):
    arrays, plain = nest.flatten(whole, "x")
    assert not arrays
    assert nest.restore(json.loads(json.dumps(plain)), arrays) == whole


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensors_come_back_with_type_and_shape(dtype, shape):
    tensor = (torch.arange(6).reshape(2, 3) % 2 if shape == (2, 3) else torch.ones(shape)).to(dtype)
    arrays, plain = nest.flatten({3: [tensor, (tensor.t(),)]}, "x")
    assert set(arrays) == {"x.3.0", "x.3.1.0"}
    assert all(array.dtype.str in ("<f4", "<f8", "<i8", "|u1") and array.ndim == 1 for array in arrays.values())
    back = nest.restore(json.loads(json.dumps(plain)), arrays)
    assert back[3][0].dtype == dtype
    assert back[3][0].shape == tensor.shape
    assert torch.equal(back[3][0], tensor)
    assert torch.equal(back[3][1][0], tensor.t())


def test_arrays_are_copies():
    tensor = torch.zeros(3)
    arrays, plain = nest.flatten(tensor, "x")
    back = nest.restore(plain, arrays)
    tensor += 1
    back += 2
    assert not np.any(arrays["x"])


def test_other_things_are_refused():
    with pytest.raises(PeersError, match="holds a set"):
        nest.flatten({"a": [set()]}, "x")
