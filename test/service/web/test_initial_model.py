"""A draft's model to start from, over the API."""

import base64

import pytest
from exports import exported, hostile
from places import spec

from service.cases import starting


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("model"))


@pytest.fixture
def draft(house):
    made = house.client("carl").post("/v1/runs", house.spec(settings=spec()["settings"]))
    return f"/v1/runs/{made.json()['id']}"


def body(card, tensors):
    return {"card": card.decode("latin-1"), "tensors": base64.b64encode(tensors).decode()}


def test_it_is_uploaded_and_the_spec_names_it(house, draft, model):
    before = house.client("carl").get(draft).json()
    answer = house.client("carl").post(f"{draft}/initial-model", body(*model[:2]))
    assert answer.status_code == 200
    assert answer.json()["spec"]["settings"]["initial_model"] == model[2]
    assert answer.json()["digest"] != before["digest"]
    again = house.client("carl").post(f"{draft}/initial-model", body(*model[:2]))
    assert again.json()["digest"] == answer.json()["digest"]


def test_hostile_files_are_refused(house, draft, model):
    carl = house.client("carl")
    before = carl.get(draft).json()
    for name, card, tensors, _ in hostile(*model[:2]):
        answer = carl.post(f"{draft}/initial-model", body(card, tensors))
        assert (answer.status_code, answer.json()["code"]) == (422, "model"), name
    for wrong in ({}, {"card": "{}"}, {"card": "{}", "tensors": "§"}, {"card": "{}", "tensors": "A"}, {"card": 1}):
        assert carl.post(f"{draft}/initial-model", wrong).status_code == 422
    assert carl.get(draft).json() == before


def test_what_is_too_large_is_not_read(house, draft, model):
    carl = house.client("carl")
    answer = carl.post(f"{draft}/initial-model", {"card": "{}", "tensors": "A" * 6_000_000})
    assert answer.status_code == 413
    large = {"card": model[0].decode(), "tensors": base64.b64encode(bytes(starting.MOST + 1)).decode()}
    assert carl.post(f"{draft}/initial-model", large).status_code in (413, 422)


def test_others_upload_nothing(house, draft, model):
    for name, status in (("cleo", 404), ("north", 404), ("vera", 404), ("", 401)):
        assert house.client(name).post(f"{draft}/initial-model", body(*model[:2])).status_code == status
    carl = house.client("carl")
    carl.post(f"{draft}/invite")
    assert house.client("north").post(f"{draft}/initial-model", body(*model[:2])).status_code == 403
    assert carl.post(f"{draft}/initial-model", body(*model[:2])).status_code == 409
