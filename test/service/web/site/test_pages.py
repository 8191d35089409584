"""The pages of a site's own machine: who sees them, what they show, and what an address cannot make them open."""

import json
import logging
import os
import re
import shutil
import sqlite3
import time
from importlib import resources
from urllib.parse import quote

import pytest
from clinics import SECRET, bids, freesurfer, left, table
from consortium import database
from houses import SOUND
from offices import fields_of, shown

from computation.scans.making import labels
from service.client.layout import RESULTS
from service.web.answering import LOG
from service.web.dashboard.guard import POLICY

PAGES = ("/", "/work", "/work/pulse", "/import?at=scans/table.csv", "/database?at=site.db",
         "/database/picture?at=site.db", "/run?at=output", "/run/page?at=output", "/run/picture?at=output")  # fmt: skip
#: What may stand behind `at=`, as a browser or anybody else sends it.
TRICKS = (
    "..", "../outside", "%2e%2e", "%2e%2e%2foutside", "..%2foutside", "/etc/passwd", "%2fetc%2fpasswd", "%00",
    "site.db%00", "%00/site.db", "%ff", "%ed%a0%80", f"out/{SECRET}.db", "out", "file-out.db", "loop", ".", "./site.db",
    ".hidden", "%2520", "+", "%20site.db", "site.db%20", "site.db/", "//site.db", "a" * 9000, "%", "%zz",
)  # fmt: skip


@pytest.fixture
def root(clinic):
    """A site with something of each kind."""
    table(clinic.root / "scans")
    bids(clinic.root / "dataset")
    freesurfer(clinic.root / "subjects")
    database(clinic.root / "site.db", scans=(3, 1, 1))
    (clinic.root / "out").symlink_to(clinic.outside)
    (clinic.root / "file-out.db").symlink_to(clinic.outside / f"{SECRET}.db")
    (clinic.root / "loop").symlink_to("loop")
    return clinic.root


@pytest.fixture(scope="session")
def output(tmp_path_factory):
    """What a run has left, made once; the database that it learnt from lies beside it."""
    folder = tmp_path_factory.mktemp("output")
    left(folder / "output", folder / "spare", folder / "learnt.db")
    return folder


@pytest.fixture
def ran(root, output):
    """The same with a run of which something was left."""
    shutil.copy2(output / "learnt.db", root / "learnt.db")
    shutil.copytree(output / "output", root / "output", symlinks=True)
    link = root / "output/work/base/scans.db"
    link.unlink()
    link.symlink_to(root / "learnt.db")
    return root


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_for_those_who_look_after_the_site(clinic, ran, path):
    path += "&scan=4" if path.startswith("/run/picture") else ""
    assert clinic.browser("").client.get(path).headers["location"].startswith("/login")
    assert clinic.browser("vera").client.get(path).status_code == 403
    for name in ("ada", "north"):
        answer = clinic.browser(name).get(path)
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        if path.startswith("/run/page"):
            assert "sandbox" in answer.headers["content-security-policy"]
            assert "script-src" not in answer.headers["content-security-policy"]
        else:
            assert answer.headers["content-security-policy"] == POLICY
            assert not re.search(r"<[^>]*\s(?:on[a-z]+|style)=", answer.text) and "<style" not in answer.text


@pytest.mark.parametrize(
    "path", ["/", "/import", "/database", "/database/picture", "/run", "/run/page", "/run/picture"]
)
def test_an_address_opens_nothing_elsewhere(clinic, root, path):
    browser = clinic.browser()
    for trick in TRICKS:
        answer = browser.client.get(f"{path}?at={trick}")
        assert answer.status_code in (404, 422), (trick, answer.status_code)
        assert SECRET not in answer.text.replace(trick, "") and str(clinic.outside) not in answer.text
    assert browser.client.get(f"{path}?at=..&at=site.db&{'a=1&' * 20}").status_code == 422


def test_there_is_no_api_and_no_run_on_this_machine(clinic):
    browser = clinic.browser("ada")
    for path in ("/v1/runs", "/v1/auth/login", "/v1/openapi.json"):
        assert browser.client.get(path).status_code == 404
    for path in ("/runs/new", "/invitations", "/pulse"):
        browser.get(path, 404)
    assert "Go to the scans" in shown(browser.get("/nowhere", 404))


def test_accounts_are_offered_the_roles_that_mean_something_here_and_need_a_password(clinic):
    browser = clinic.browser("ada")
    for path in ("/accounts", f"/accounts/{clinic.local.records.account_named('north').sub}"):
        assert re.findall(r'name="role-([a-z]+)"', browser.get(path).text) == ["administrator", "site"]
    assert "coordinator" not in shown(browser.get("/accounts")), "the first administrator's, which does nothing here"
    asked = {"name": "south", "role-site": "on", "password": ""}
    answer = browser.send("/accounts", **asked)
    assert answer.status_code == 422 and "type one" in shown(answer)
    assert fields_of(answer.text)["name"] == "south" and fields_of(answer.text)["role-site"] == "on"
    assert browser.send("/accounts", **{**asked, "password": SOUND, "role-viewer": "on"}).status_code == 303
    assert clinic.local.records.account_named("south").roles == {"site"}


def test_a_role_that_means_nothing_here_is_kept_for_the_centre_that_has_the_same_folder(clinic):
    ada = clinic.local.records.account_named("ada")
    asked = {"verb": "change", "role-administrator": "on", "role-site": "on"}
    assert clinic.browser("ada").send(f"/accounts/{ada.sub}", **asked).status_code == 303
    assert clinic.local.records.account(ada.sub).roles == {"administrator", "coordinator", "site"}


def test_the_start_page_says_what_there_is(clinic, ran):
    browser = clinic.browser()
    page = shown(browser.get("/"))
    for text in ("site.db", "learnt.db", "dataset", "subjects", "output", "3 links that lead out", str(clinic.root)):
        assert text in page, text
    assert SECRET not in page and "Runs" in page
    assert "table.csv" in shown(browser.get("/?at=scans")) and "8 other files" in shown(browser.get("/?at=scans"))
    assert 'aria-current="page">Scans' in browser.get("/?at=scans").text


def test_an_empty_folder_says_what_would_be_shown(clinic):
    assert "Nothing here to import or to look at" in shown(clinic.browser().get("/"))
    assert "Nothing was imported from here yet" in shown(clinic.browser().get("/work"))


def test_names_of_any_bytes_are_shown_as_text_and_lead_to_what_they_name(clinic):
    odd = b"<img src=x onerror=alert(1)>\xe9\n \"'&%41"
    table(clinic.root / os.fsdecode(odd))
    browser = clinic.browser()
    page = browser.get("/")
    assert "<img" not in page.text and "\ufffd" in page.text
    (where,) = re.findall(r'class="row" href="([^"]*)"', page.text)
    assert where == f"/?at={quote(odd, safe='/')}"
    assert "table.csv" in shown(browser.get(where))
    browser.get(where.replace("/?at", "/import?at") + "/table.csv")
    database(clinic.root / os.fsdecode(odd) / "site.db")
    at = where.replace("/?at", "/database?at") + "/site.db"
    assert "<img src=x" not in browser.get(at).text
    browser.get(at.replace("/database", "/database/picture"))
    browser.send(at, "/password")
    clinic.wait()
    assert at in browser.get("/work").text and "<img src=x" not in browser.get("/work").text


def test_a_long_table_of_the_prototype_is_left_to_a_terminal(clinic, monkeypatch):
    from service.web.site import databases

    monkeypatch.setattr(databases, "_LONGEST", 10)
    with sqlite3.connect(clinic.root / "peer.db") as connection:
        connection.execute("CREATE TABLE mindboggle101 (id INTEGER PRIMARY KEY, Image, GWlabels)")
    connection.close()
    answer = clinic.browser().client.get("/database?at=peer.db")
    assert answer.status_code == 409 and "at a terminal" in shown(answer)


def test_a_database_is_told_as_inspect_tells_it(clinic, root):
    browser = clinic.browser()
    page = shown(browser.get("/database?at=site.db"))
    for text in (
        "person-0-0",
        "white matter",
        "12 x 12 x 12",
        "3 x 3 x 3",
        "The import left no scan out",
        "Check every",
    ):
        assert text in page, text
    assert "Scan 2, person-0-1" in shown(browser.get("/database?at=site.db&scan=2"))
    for scan in ("9", "-1", "x", "1.0", "%00"):
        assert browser.client.get(f"/database?at=site.db&scan={scan}").status_code == 404


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(84), None])
def test_what_is_no_scan_database_is_refused_in_words(clinic, content):
    path = clinic.root / "odd.db"
    path.write_bytes(content if content is not None else database(clinic.folder / "x.db").read_bytes()[:5000])
    for page in ("/database", "/database/picture"):
        answer = clinic.browser().client.get(f"{page}?at=odd.db")
        assert answer.status_code == 422 and "That was not done" in shown(answer)


def test_a_form_needs_the_pages_own_stamp(clinic, root):
    browser = clinic.browser()
    for path in ("/import?at=scans/table.csv", "/database?at=site.db", "/work"):
        for data in ({}, {"stamp": "0" * 64}):
            assert browser.client.post(path, data=data).status_code == 403
        stamped = {"stamp": browser.stamp()}
        foreign = browser.client.post(path, data=stamped, headers={"Origin": "http://elsewhere"})
        assert foreign.status_code == 403
    assert clinic.work.state is None


@pytest.mark.parametrize("at", ["scans", "site.db", "", "scans/0-t1.nii.gz", "empty"])
def test_what_cannot_be_imported_has_no_form(clinic, root, at):
    (root / "empty").mkdir()
    answer = clinic.browser().client.get(f"/import?at={at}")
    assert answer.status_code == 422 and "wanted one of these to import" in shown(answer)


WRONG = {
    "target": ("", "x", "../x.db", "/tmp/x.db", "out/x.db", ".x.db", "no/x.db", "x\0.db", "scans/table.csv", "a\nb.db",
               "file-out.db", "site.db", "é" * 120 + ".db"),
    "spacing": ("", "x", "-1", "1 1", "1 1 1 1", "--overwrite", "nan", "inf", "1e3", "100", "1 --db=/tmp/x 1"),
    "split": ("", "0.5 0.5", "1 1 1", "--strict 0 1", "0.7 0.2 0.1 0"),
    "seed": ("", "x", "-1", "1.5", "9" * 400),
    "labels": ("", "no", "identity-999", "/etc/passwd.json", "../outside/x.json", "gwm-white1-grey2:no", "x.json:\0"),
    "like": ("", "no"),
    "normalise": ("no",),
    "storage": ("no",),
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_what_the_command_would_refuse_the_form_refuses_and_keeps(clinic, root, field):
    browser = clinic.browser()
    for value in WRONG[field]:
        answer = clinic.begin(browser, "scans/table.csv", **{field: value})
        assert answer.status_code in (409, 422), (field, value, answer.status_code)
        assert 'role="alert"' in answer.text
        kept = fields_of(answer.text).get(field, "")
        assert field in ("like", "normalise", "storage") or kept.strip() == value.replace("\0", "\ufffd").strip()
    assert clinic.work.state is None


@pytest.mark.parametrize(
    ("at", "field"), [("subjects", "volume"), ("subjects", "segmentation"), ("dataset", "derivatives")]
)
def test_a_part_of_a_name_leads_into_no_other_folder(clinic, root, at, field):
    for value in ("../../../../outside/x", "/etc/passwd", "..", "a/b"):
        assert clinic.begin(clinic.browser(), at, **{field: value}).status_code == 422


def test_a_table_is_imported_and_found_again(clinic, root):
    browser = clinic.browser()
    answer = clinic.begin(browser, "scans/table.csv", spacing="2", split="1 0 0")
    assert answer.headers["location"] == "/work"
    clinic.wait()
    page = shown(browser.get("/work"))
    assert "Done" in page and "What the database holds" in page and "coinstac-meshnet import" in page
    assert "4 of 4" in page
    page = shown(browser.get("/database?at=scans/table.db"))
    assert "person-3" in page and "128 x 128 x 128" in page
    assert clinic.begin(browser, "scans/table.csv").status_code == 409
    clinic.begin(browser, "scans/table.csv", spacing="2", mode="add what is new or changed", split="1 0 0")
    assert clinic.wait().result["states"] == {"unchanged": 4}


@pytest.mark.parametrize(("at", "more"), [("dataset", {}), ("subjects", {"segmentation": "aseg"})])
def test_folders_of_scans_are_tried_and_nothing_is_written(clinic, root, at, more):
    browser = clinic.browser()
    clinic.begin(browser, at, verb="try", spacing="2", **more)
    found = clinic.wait()
    assert found.order.tries and len(found.result["taken"]) == 2
    assert "Trial import" in shown(browser.get("/work")) and not (root / f"{at}.db").exists()


def test_classes_of_ones_own_come_from_a_file_of_the_site(clinic, root):
    shipped = resources.files(labels.__package__).joinpath("labelsets", "gwm-white1-grey2.json").read_text("utf-8")
    (root / "my own.json").write_text(shipped.replace("grey matter", "my own grey"))
    clinic.begin(clinic.browser(), "scans/table.csv", spacing="2", labels="my own.json")
    clinic.wait()
    assert "my own grey" in shown(clinic.browser().get("/database?at=scans/table.db"))


def test_scans_that_a_table_names_elsewhere_stay_out(clinic, root):
    lines = (root / "scans/table.csv").read_text().splitlines()
    away = table(clinic.outside, 1, "more.csv").with_name("0-t1.nii.gz")
    lines[1] = f"person-0,{away},0-seg.nii.gz"
    lines[2] = "person-1,../out/0-t1.nii.gz,1-seg.nii.gz"
    (root / "scans/table.csv").write_text("\n".join(lines))
    clinic.begin(clinic.browser(), "scans/table.csv", spacing="2")
    found = clinic.wait()
    assert [one["subject"] for one in found.result["left_out"]] == ["person-0", "person-1"]
    assert "lies outside the folder" in shown(clinic.browser().get("/work"))
    assert "lies outside the folder" in shown(clinic.browser().get("/database?at=scans/table.db"))


NONSENSE = {
    "nothing": b"",
    "no columns": b"a,b\n1,2\n",
    "no UTF-8": b"subject,image,label\n\xff\xfe,x,y\n",
    "NUL": b"subject,image,label\na,x\0y,\n",
    "an open quote": b'subject,image,label\n"a,b,c\n',
    "no file": b"subject,image,label\na,b.nii,c.nii\n",
    "itself": b"subject,image,label\na,bad.csv,\n",
    "a folder": b"subject,image,label\na,.,\n",
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_told_as_the_import_tells_it_and_nothing_is_left(clinic, kind):
    (clinic.root / "bad.csv").write_bytes(NONSENSE[kind])
    clinic.begin(clinic.browser(), "bad.csv")
    found = clinic.wait("failed")
    assert found.problem and "failed (" not in found.problem
    page = clinic.browser().get("/work")
    assert found.problem[1:40] in shown(page) and 'role="alert"' in page.text
    assert not (clinic.root / "bad.db").exists()


def test_one_at_a_time(clinic, root):
    browser = clinic.browser()
    clinic.begin(browser, "scans/table.csv", spacing="1")
    answer = clinic.begin(browser, "dataset", spacing="2")
    assert answer.status_code == 409 and "One import or check at a time" in shown(answer)
    assert browser.send("/database?at=site.db", "/password").status_code == 409
    assert "is under way" in shown(browser.get("/"))
    page = browser.get("/work")
    assert 'data-pulse="/work/pulse"' in page.text and "Stop it" in shown(page)
    assert browser.get("/work/pulse").json()["pulse"] == clinic.work.pulse
    browser.send("/work", "/password")
    clinic.wait("stopped")
    assert "It was stopped" in shown(browser.get("/work"))
    assert not (root / "scans/table.db").exists()
    clinic.begin(browser, "scans/table.csv", spacing="2")
    clinic.wait()


def test_every_voxel_is_checked(clinic, root):
    browser = clinic.browser()
    assert browser.send("/database?at=site.db", "/password").headers["location"] == "/work"
    assert clinic.wait().result == {"faults": {}, "scans": 5}
    with sqlite3.connect(root / "site.db") as connection:
        connection.execute("UPDATE blocks SET crc32 = crc32 + 1 WHERE block = 1")
    connection.close()
    browser.send("/database?at=site.db", "/password")
    assert list(clinic.wait().result["faults"]) == ["1"]
    assert "Damaged scans" in shown(browser.get("/work"))
    pytest.importorskip("matplotlib")
    assert browser.get("/database/picture?at=site.db&scan=1").content[:4] == b"\x89PNG"


def test_a_run_is_shown_with_its_numbers_its_page_and_its_predictions(clinic, ran):
    pytest.importorskip("matplotlib")
    browser = clinic.browser()
    page = browser.get("/run?at=output")
    text = shown(page)
    for wanted in ("Finished", "planned", "Dice at this site", "Training loss", "Scan 4", "scan-0004.nii.gz"):
        assert wanted in text, wanted
    assert "A number may stand for another scan" not in text and "Skipped" in text
    (where,) = re.findall(r'src="(/run/picture[^"]*)"', page.text)
    answer = browser.get(where.replace("&amp;", "&"))
    assert answer.headers["content-type"] == "image/png" and answer.content[:4] == b"\x89PNG"
    assert "MeshNet" in browser.get("/run/page?at=output").text
    assert browser.client.get("/run/picture?at=output&scan=1").status_code == 404
    os.utime(ran / "learnt.db", (time.time() + 9, time.time() + 9))
    assert "A number may stand for another scan" in shown(browser.get("/run?at=output"))


def test_the_best_model_is_the_one_that_was_delivered_not_the_best_before_the_last_validation(clinic, ran):
    card = ran / "output/results/model/best.json"
    told = json.loads(card.read_text())
    browser, rounds = clinic.browser(), told["run"]["rounds"]

    def best():
        return re.search(r"Best model round (\d+) ([a-z ]+)", shown(browser.get("/run?at=output")))

    assert int(best()[1]) == told["run"]["best_round"]
    for number, note in ((rounds, "the final one"), (1, "by pooled validation")):
        card.write_text(json.dumps({**told, "run": {**told["run"], "best_round": number}}))
        assert int(best()[1]) == number and best()[2].startswith(note)
    for text in ("{", "null", json.dumps({**told, "run": {"best_round": "<b>"}}), "[" * 100_000):
        card.write_text(text)
        assert browser.client.get("/run?at=output").status_code == 200


def test_a_prediction_of_another_grid_is_not_drawn(clinic, ran):
    database(ran / "learnt.db", scans=(2, 1, 1), side=14)
    answer = clinic.browser().client.get("/run/picture?at=output&scan=4")
    assert answer.status_code == 409 and "another grid" in shown(answer)


def test_scans_that_lie_elsewhere_are_not_drawn(clinic, ran):
    link = ran / "output/work/base/scans.db"
    link.unlink()
    link.symlink_to(clinic.outside / f"{SECRET}.db")
    browser = clinic.browser()
    page = shown(browser.get("/run?at=output"))
    assert "lie outside the folder" in page and SECRET not in page
    assert browser.client.get("/run/picture?at=output&scan=4").status_code == 409


def test_a_prediction_that_leads_elsewhere_is_none(clinic, ran):
    path = ran / "output/results/predictions/scan-0004.nii.gz"
    path.rename(clinic.outside / f"{SECRET}.nii.gz")
    path.symlink_to(clinic.outside / f"{SECRET}.nii.gz")
    assert "has segmented no scan" in shown(clinic.browser().get("/run?at=output"))
    assert clinic.browser().client.get("/run/picture?at=output&scan=4").status_code == 404


@pytest.mark.parametrize("content", [b"no image", b"", b"\x1f\x8b\x08\0"])
def test_a_prediction_that_is_damaged_is_told(clinic, ran, content):
    (ran / "output/results/predictions/scan-0004.nii.gz").write_bytes(content)
    assert clinic.browser().client.get("/run/picture?at=output&scan=4").status_code == 422


BROKEN = {
    "nothing": b"",
    "no JSON": b"\xff\n{\n",
    "a list": b"[]\n",
    "half a round": b'{"event": "round", "sequence": 1, "round": 1}\n',
    "no numbers": b'{"event": "round", "sequence": 1, "round": "x", "digest": "y", "dice": []}\n',
    "a plan of nothing": b'{"event": "plan", "sequence": 1, "settings": {"classes": [1]}, "rounds": -1, "run": {}}\n',
    "deep": b'{"event": "plan", "sequence": 1, "x": ' + b"[" * 100_000 + b"\n",
    "too large": b'{"event": "round", "sequence": 1, "round": 1, "digest": "y", "loss": 1e999, "sites": 1}\n',
    "huge": b'{"event": "round", "sequence": 1, "round": ' + b"9" * 4000 + b', "digest": "y"}\n',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_journal_of_anybody_is_shown_or_refused_in_words(clinic, ran, kind):
    (ran / "output/results/journal.jsonl").write_bytes(BROKEN[kind])
    assert clinic.browser().client.get("/run?at=output").status_code in (200, 422)


def test_pipes_in_a_runs_folder_are_not_waited_for(clinic, ran):
    for name in ("journal.jsonl", "index.html"):
        (ran / "output" / RESULTS / name).unlink()
        os.mkfifo(ran / "output" / RESULTS / name)
    for path in ("/run", "/run/page", "/run/picture"):
        assert clinic.browser().client.get(f"{path}?at=output").status_code == 404


def test_nothing_of_a_scan_is_in_the_log(clinic, ran, caplog):
    caplog.set_level(logging.DEBUG)
    shutil.copytree(ran / "scans", ran / SECRET)
    (ran / SECRET / "table.csv").write_text(f"subject,image,label\n{SECRET},{SECRET}.nii,\n")
    browser = clinic.browser()
    for path in (*PAGES, f"/?at={SECRET}", f"/import?at={SECRET}/table.csv", f"/database?at={SECRET}/x.db"):
        browser.client.get(path)
    clinic.begin(browser, f"{SECRET}/table.csv")
    clinic.wait("failed")
    browser.get("/work")
    ours = [record for record in caplog.records if record.name.startswith(("service", "computation"))]
    logged = "\n".join(record.getMessage() + str(record.exc_info or "") for record in ours)
    assert len([record for record in ours if record.name == LOG.name]) > 10
    for secret in (SECRET, str(clinic.root), "table.csv", "site.db", "person-", ".nii"):
        assert secret not in logged


def test_what_a_browser_asks_for_twice_is_the_same(clinic, ran):
    browser = clinic.browser()
    for path in ("/?at=scans", "/database?at=site.db", "/run?at=output"):
        assert shown(browser.get(path)) == shown(browser.get(path))
    assert json.loads(browser.get("/work/pulse").text)["pulse"] == ""
