"""A draft's form for the model to start from, and the same from a terminal."""

import json

import pytest
from exports import exported, hostile
from offices import Door, fields_of, shown

from computation import cli
from computation.model.exported import identify
from service.cases import reading, starting
from service.web.dashboard.starting import _MOST_FORM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("model")
    exported(made)
    return made


@pytest.fixture
def model(folder):
    card, tensors = (folder / "model.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    return card, tensors, identify(folder / "model.json")[0]


#: Neither the field's name nor what it holds is text.
NAMELESS = b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\xff\r\n--x--\r\n'


def upload(browser, path, card, tensors, stamp=None):
    files = {"card": ("model.json", card), "tensors": ("model.safetensors", tensors)}
    stamp = browser.stamp(path) if stamp is None else stamp
    return browser.client.post(f"{path}/model", data={"stamp": stamp}, files=files)


def draft(office):
    return f"/runs/{office.make(invited=False).id}"


def spec(office, path):
    return reading.run(office.desk, office.who("carl"), path.rpartition("/")[2])


def test_a_coordinator_uploads_it_and_the_page_says_so(office, model):
    path, carl = draft(office), office.browser("carl")
    before = spec(office, path)
    assert "drawn from the seed" in shown(carl.get(path))
    page = carl.follow(upload(carl, path, *model[:2]))
    assert model[2] in shown(page) and "the service has it" in shown(page)
    run = spec(office, path)
    assert run.wanted.settings["initial_model"] == model[2] and run.digest != before.digest
    assert run.digest in page.text


def test_the_drafts_other_form_keeps_it_and_says_when_it_no_longer_fits(office, model):
    path, carl = draft(office), office.browser("carl")
    upload(carl, path, *model[:2])
    fields = fields_of(carl.get(f"{path}/edit").text)
    page = carl.follow(carl.client.post(f"{path}/edit", data={**fields, "set-epochs": "3"}))
    assert "the service has it" in shown(page)
    fields = fields_of(carl.get(f"{path}/edit").text)  # nobody changes a draft that another has changed meanwhile
    page = carl.follow(carl.client.post(f"{path}/edit", data={**fields, "set-activation": "relu"}))
    assert "a site must bring it" in shown(page)


def test_hostile_files_are_refused_on_the_drafts_page(office, model):
    path, carl = draft(office), office.browser("carl")
    before, stamp = spec(office, path), carl.stamp(path)
    for name, card, tensors, said in hostile(*model[:2]):
        answer = upload(carl, path, card, tensors, stamp)
        assert answer.status_code == 422 and said in shown(answer), name
    assert upload(carl, path, model[0], bytes(starting.MOST + 1), stamp).status_code == 413
    assert upload(carl, path, model[0], bytes(_MOST_FORM), stamp).status_code == 413
    assert spec(office, path) == before


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/x-www-form-urlencoded", b"stamp=a"),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=", b"--\r\n"),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na\r\n' * 20),
        (
            "multipart/form-data; boundary=x; charset=nonsense",
            NAMELESS,
        ),
        ("text/plain", b"a"),
    ],
)
def test_a_form_that_is_none_is_refused(office, kind, content):
    path, carl = draft(office), office.browser("carl")
    answer = carl.client.post(f"{path}/model", content=content, headers={"content-type": kind})
    assert answer.status_code in (403, 422)


def test_others_and_foreign_pages_upload_nothing(office, model):
    path, carl = draft(office), office.browser("carl")
    before = spec(office, path)
    assert upload(carl, path, *model[:2], stamp="0" * 64).status_code == 403
    for name, status in (("cleo", 404), ("north", 403), ("vera", 403)):
        browser = office.browser(name)
        assert upload(browser, path, *model[:2], stamp=browser.stamp()).status_code == status
    assert spec(office, path) == before
    carl.send(path, verb="invite")
    assert upload(carl, path, *model[:2], stamp=carl.stamp()).status_code == 409
    assert carl.client.get(f"{path}/model").status_code == 303


def test_a_run_is_made_with_it_from_a_terminal(office, folder, model, tmp_path, capsys):
    door = Door(office.app)
    try:
        held = tmp_path / "carl.json"
        held.write_text(
            json.dumps({"server": door.url, "refresh": office.local.login("carl", "correct horse battery").refresh})
        )
        held.chmod(0o600)
        wanted = json.loads(spec(office, draft(office)).spec)
        (tmp_path / "spec.json").write_text(json.dumps(wanted))
        told = ["service", "create", tmp_path / "spec.json", "--url", door.url, "--credentials", held, "--start-from"]
        (tmp_path / "model.json").write_bytes(model[0])
        assert cli.main([str(one) for one in (*told, tmp_path / "model.json")]) == 2
        assert "cannot be read" in "".join(capsys.readouterr())
        assert cli.main([str(one) for one in (*told, folder / "model.json")]) == 0
        said = capsys.readouterr().out
    finally:
        door.stop()
    runs, _ = reading.runs(office.desk, office.who("carl"))
    made = [one for one in runs if one.state == "inviting"]
    assert len(made) == 1 and made[0].digest in said
    assert made[0].wanted.settings["initial_model"] == model[2]
