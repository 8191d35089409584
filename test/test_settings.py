"""Settings: every default is valid, every bad value is refused by name, and the spec cannot drift from the code."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.coinstac.compspec import compspec, inputspec
from computation.errors import SettingsError
from computation.model import architecture
from computation.settings import MODELS, Member, Settings, differences, options, parse

ROOT = Path(__file__).parents[1]


def test_defaults_survive_their_own_check():
    settings, member = parse({**Settings().as_json(), "data": ["site.db"]})
    assert settings == Settings()
    assert member == Member(data=("site.db",))


def test_json_round_trip_is_identity():
    settings, _ = parse({"patch_size": [32, 48, 64], "class_weights": [0.5, 1, 1], "seed": 7})
    assert parse(json.loads(json.dumps(settings.as_json())))[0] == settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("learning_rate", 0, "the COINSTAC app cuts a member's decimals to whole numbers"),
        ("learning_rate", float("nan"), "wanted a number above 0"),
        ("learning_rate", "0.1", "wanted a number above 0"),
        ("learning_rate", True, "wanted a number above 0"),
        ("learning_rate", 10**400, "wanted a number above 0"),
        ("patch_size", [10**400, 4, 4], "4 to 1024 voxels"),
        ("class_weights", [10**400, 1, 1], "0 to 1000"),
        ("quorum", 0, "wanted a number above 0 and at most 1"),
        ("epochs", -1, "wanted a whole number from 0"),
        ("epochs", 2.5, "wanted a whole number from 0"),
        ("strategy", "gradient_mean", "did you mean 'gradient-mean'?"),
        ("classes", ["background"], "2 to 256 different label names"),
        ("classes", ["a", "a"], "2 to 256 different label names"),
        ("patch_size", 3, "4 to 1024 voxels"),
        ("patch_size", [64, 64], "4 to 1024 voxels"),
        ("class_weights", [1, 2], "one for each class"),
        ("data", "site.db", "a list of file names"),
        ("device", "gpu", '"cuda:N"'),
        ("device", "7", '"cuda:N"'),
        ("device", "cuda:²", '"cuda:N"'),
        ("device", "cuda:99999999999999", '"cuda:N"'),
        ("device", "cuda:01", '"cuda:N"'),
        ("wandb", {"key": "x"}, "an object with any of project"),
    ],
)
def test_bad_values_are_refused_by_name(name, value, said):
    with pytest.raises(SettingsError) as caught:
        parse({name: value})
    assert name in caught.value.public
    assert said in caught.value.public


@pytest.mark.parametrize("name", options(Member))
@pytest.mark.parametrize("value", ["/hospital/jane-doe.db", ["jane-doe", 7], {"jane-doe": 7, "device": "jane-doe"}])
def test_what_a_member_typed_is_never_repeated(name, value):
    """Every site reads the refusal, and error.log keeps it; it may be a path, or an API key in the wrong place."""
    try:
        parse({name: value})
    except SettingsError as error:
        assert "jane-doe" not in str(error)


def test_unknown_setting_suggests_the_nearest_name():
    with pytest.raises(SettingsError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        parse({"learning_rat": 0.1})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "fedavg", "proximal": 0.1}, "setting 'proximal' is 0.1 and has no effect with strategy 'fedavg'"),
        ({"server_momentum": 0}, "leave it at 0.9, or take fedavgm or fedadam or fedyogi or fedadagrad"),
        (
            {"strategy": "fedavgm", "server_adaptivity": 1},
            "leave it at 0.001, or take fedadam or fedyogi or fedadagrad",
        ),
        ({"strategy": "scaffold", "local_steps": 2, "server_rate": 1}, "has no effect with strategy 'scaffold'"),
    ],
)
def test_a_setting_without_effect_on_the_strategy_is_refused(given, said):
    with pytest.raises(SettingsError) as caught:
        parse(given)
    assert said in caught.value.public


def test_whole_volumes_need_batches_of_one():
    with pytest.raises(SettingsError, match="batch_size"):
        parse({"patch_size": 0, "batch_size": 2})


@given(
    st.dictionaries(
        st.text(max_size=12) | st.sampled_from(sorted(options(Settings))),
        st.none()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.integers(), max_size=4)
        | st.booleans(),
        max_size=4,
    )
)
def test_parsing_either_succeeds_or_raises_the_named_error(inputs):
    try:
        settings, _ = parse(inputs)
    except SettingsError as error:
        assert error.public
    else:
        assert parse(settings.as_json())[0] == settings


def test_differences_name_the_setting_and_both_values():
    one, other = parse({"seed": 1})[0], parse({"seed": 2})[0]
    assert differences(one, other) == {"seed": (1, 2)}
    assert differences(one, one) == {}


def test_committed_specs_are_the_generated_ones():
    assert json.loads((ROOT / "compspec.json").read_text()) == compspec()
    assert json.loads((ROOT / "inputspec.json").read_text()) == inputspec()
    assert (ROOT / "test/inputspec.json").resolve() == ROOT / "inputspec.json"


def test_inputspec_describes_sites_with_one_owner_and_data_of_their_own():
    owners, members = zip(
        *(parse({name: entry["value"] for name, entry in site.items()}) for site in inputspec()), strict=True
    )
    assert len(owners) >= 2
    assert len(set(owners)) == 1
    assert all(len(member.data) == 1 for member in members)


def test_every_input_has_what_the_form_needs():
    inputs = compspec()["computation"]["input"]
    assert [spec["order"] for spec in inputs.values()] == list(range(len(inputs)))
    for name, spec in inputs.items():
        assert {"label", "type", "source", "order", "group", "tooltip"} <= set(spec), name
        # With a default, the app's mapping screen demands a value that its editors for these types cannot give.
        assert ("default" in spec) is (name not in ("data_csv", "device", "wandb")), name
        # The desktop app drops a member's typed string and has no member editor for select, range and array.
        assert spec["source"] == "owner" or spec["type"] in ("files", "csv", "object", "boolean", "number"), name
        assert "{}" not in spec["tooltip"] and spec["tooltip"].endswith(".")


def test_the_help_of_model_counts_the_layers_as_they_are():
    """Ten layers or eight, the 1x1x1 one among them, as their names say; but those of 2025, called 11, have ten."""
    layers = {name: len(architecture.named(name, classes=2).dilations) + 1 for name in MODELS}
    odd = {name: count for name, count in layers.items() if not name.startswith(f"meshnet-{count}x")}
    assert odd == {name: 10 for name in MODELS if name.startswith("meshnet-11x")}
    text = options(Settings)["model"][1].help
    assert "11x ones have ten" in text and "1x1x1" in text
