"""What the leader wrote, and what the platform wrote beside it."""

import json

import pytest

from computation.errors import SettingsError
from neuroflame import parameters


def written(folder, text):
    path = folder / "parameters.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def test_settings_and_names_are_read(tmp_path):
    told = parameters.read(
        written(tmp_path, {"epochs": 3, "site_id_name_map": {"a1": "Hospital A", "b2": "Hospital B"}})
    )
    assert told.settings == {"epochs": 3}
    assert told.name("a1") == "Hospital A" and told.name("c") == "c"


@pytest.mark.parametrize(
    "names",
    [{"a": "One", "b": "one"}, {"a": "x/y", "b": "z"}, {"a": "..", "b": "z"}, {"a": "two\nlines", "b": "z"}, {"a": ""}],
)
def test_sites_have_their_ids_where_a_name_is_not_theirs_alone_or_makes_no_folder(tmp_path, names):
    assert parameters.read(written(tmp_path, {"site_id_name_map": names})).name("a") == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "no object"),
        ('{"epochs": 1, "epochs": 2}', "given twice"),
        ('{"epocs": 3}', "did you mean 'epochs'"),
        ('{"epochs": "many"}', "'epochs'"),
        ('{"epochs": NaN}', "NaN is not JSON"),
        ('{"data": ["site.db"]}', "each member's own"),
        ('{"wandb": {"api_key": "k"}}', "each member's own"),
        ('{"site_id_name_map": ["a"]}', "no object of texts"),
        ('{"site_id_name_map": {"a": 1}}', "no object of texts"),
        (f'{{"model": "{"x" * 2**20}"}}', "longer than"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, said):
    with pytest.raises(SettingsError) as caught:
        parameters.read(written(tmp_path, text))
    assert said in caught.value.public


def test_missing_is_said(tmp_path):
    with pytest.raises(SettingsError, match="missing from the run kit"):
        parameters.read(tmp_path / "parameters.json")
