"""The platform's provisioning input, in each form that it has had."""

import json

import pytest

from computation.errors import SettingsError
from neuroflame import contract

NEWER = {
    "users": [{"id": "a1", "name": "Hospital A"}, {"id": "b2", "name": "Hospital B"}],
    "computation_parameters": {"epochs": 3},
    "fed_learn_port": 8102,
    "host_identifier": "centre.example.org",
}
OLDER = {
    "user_ids": ["a1", "b2"],
    "active_participants": [
        {"participantId": "a1", "displayName": "Hospital A", "vaultId": None},
        {"userId": "b2", "displayName": "Hospital B"},
    ],
    "computation_parameters": '{"epochs": 3}',
    "fed_learn_port": 8102,
    "admin_port": 8103,
    "host_identifier": "centre.example.org",
}


def read(folder, value):
    path = folder / "provision_input.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return contract.read(path)


@pytest.mark.parametrize("asked", [NEWER, OLDER, {**NEWER, "computation_parameters": '{"epochs": 3}'}])
def test_each_form_is_understood(tmp_path, asked):
    seen = read(tmp_path, asked)
    assert seen.names == {"a1": "Hospital A", "b2": "Hospital B"}
    assert seen.parameters == {"epochs": 3, "site_id_name_map": seen.names}
    assert (seen.host, seen.port) == ("centre.example.org", 8102)


def test_the_oldest_form_has_no_names(tmp_path):
    asked = {name: value for name, value in OLDER.items() if name != "active_participants"}
    assert read(tmp_path, asked).names == {"a1": "a1", "b2": "b2"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"users": [{"id": "a", "name": "A"}, {"id": "a", "name": "B"}]}, "two members have the id 'a'"),
        ({"users": [{"id": "a", "name": "A"}, {"id": "b", "name": "A"}]}, "two members have the name 'A'"),
        ({"users": [{"id": "a", "name": " "}]}, "blank name"),
        ({"users": [{"id": "a"}]}, "blank name"),
        ({"users": [{"id": "../a", "name": "A"}]}, "a member's id"),
        ({"users": [{"id": "server", "name": "A"}]}, "a member's id"),
        ({"users": [{"id": "centralNode", "name": "A"}]}, "a member's id"),
        ({"users": [{"id": "x" * 64, "name": "A"}]}, "a member's id"),
        ({"users": [{"id": 7, "name": "A"}]}, "a member's id"),
        ({"users": []}, "names no members"),
        ({"users": {"a": "A"}}, "names no members"),
        ({"users": None}, "names no members"),
        ({"users": ["a"]}, "names no members"),
        ({"users": None, "user_ids": [["a"]]}, "a member's id"),
        ({"fed_learn_port": 0}, "'fed_learn_port' is 0"),
        ({"fed_learn_port": 70000}, "'fed_learn_port' is 70000"),
        ({"fed_learn_port": "8102"}, "'fed_learn_port' is '8102'"),
        ({"fed_learn_port": True}, "'fed_learn_port' is True"),
        ({"admin_port": 0}, "'admin_port' is 0"),
        ({"host_identifier": "a b"}, "'host_identifier'"),
        ({"host_identifier": "-x; rm"}, "'host_identifier'"),
        ({"host_identifier": None}, "'host_identifier'"),
        ({"computation_parameters": "{"}, "'computation_parameters' is not JSON"),
        ({"computation_parameters": []}, "'computation_parameters' is no object"),
        ({"computation_parameters": {"epocs": 3}}, "did you mean 'epochs'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, said):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, {**NEWER, **changes})
    assert said in caught.value.public


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"users": NaN}'])
def test_nor_is_anything_else_read(tmp_path, text):
    with pytest.raises(SettingsError, match=r"provision_input\.json"):
        read(tmp_path, text)


def test_missing_is_said(tmp_path):
    with pytest.raises(SettingsError, match="is missing"):
        contract.read(tmp_path / "none.json")
