"""Named architectures are data read by a fixed schema."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ModelError
from computation.model import architecture
from computation.settings import MODELS, Settings


def test_names_are_those_of_the_settings():
    assert architecture.names() == MODELS


@pytest.mark.parametrize("name", MODELS)
def test_name_says_width(name):
    assert architecture.named(name, classes=3).width == int(name.split("x")[1])


def test_published_choices_and_ones_own():
    thesis = architecture.named("meshnet-8x21", classes=3)
    assert (thesis.dilations, thesis.norm, thesis.activation) == ((1, 1, 1, 2, 4, 8, 1), "batch", "relu")
    assert thesis.dropout > 0
    own = architecture.named("meshnet-8x21", classes=3, norm="group", activation="gelu", dropout=0.0)
    assert (own.norm, own.activation, own.dropout) == ("group", "gelu", 0.0)
    peer = architecture.named("meshnet-10x5", classes=3)
    assert (peer.dilations, peer.norm, peer.activation) == ((1, 2, 4, 8, 16, 8, 4, 2, 1), "batch", "elu")


def test_from_settings():
    settings = Settings(model="meshnet-10x16", norm="published", activation="published", dropout=0.1)
    made = architecture.from_settings(settings)
    assert (made.norm, made.activation, made.dropout, made.classes) == ("batch", "elu", 0.1, 3)
    assert architecture.from_settings(Settings()).norm == "group"


def test_unknown_name_gets_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'meshnet-10x5'"):
        architecture.named("meshnet10x5", classes=3)


@pytest.mark.parametrize("name", MODELS)
def test_json_round_trip(name):
    one = architecture.named(name, classes=7)
    assert architecture.parse(one.as_json()) == one


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 0),
        ("width", True),
        ("width", 1e9),
        ("classes", 1),
        ("dilations", []),
        ("dilations", [0]),
        ("dilations", "1,2"),
        ("dilations", [1] * 65),
        ("norm", "layer"),
        ("norm", []),
        ("activation", "__import__('os')"),
        ("dropout", 1),
        ("dropout", float("nan")),
        ("name", ""),
        ("source", 3),
        ("format", "meshnet-architecture/2"),
    ],
)
def test_malformed_value_is_refused(key, value):
    raw = architecture.named("meshnet-10x5", classes=3).as_json()
    with pytest.raises(ModelError):
        architecture.parse({**raw, key: value})


def test_unknown_and_missing_keys_are_refused():
    raw = architecture.named("meshnet-10x5", classes=3).as_json()
    with pytest.raises(ModelError):
        architecture.parse({**raw, "code": "x"})
    with pytest.raises(ModelError):
        architecture.parse({key: value for key, value in raw.items() if key != "norm"})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.data())
def test_any_json_is_an_architecture_or_a_model_error(data):
    raw = architecture.named("meshnet-10x5", classes=3).as_json()
    broken = data.draw(
        _json | st.fixed_dictionaries({}, optional=dict.fromkeys(raw, _json)).map(lambda x: {**raw, **x})
    )
    try:
        architecture.parse(broken)
    except ModelError as error:
        assert error.public
