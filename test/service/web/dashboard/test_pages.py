"""Every page and form: who sees it, what it does, and that foreign text stays text."""

import hashlib
import json
import re
import subprocess
import sys

import pytest
from offices import HOSTILE, SOUND, fields_of, shown
from places import ROOT

from computation.wire.messages import Results
from service.cases import looking, reading, site
from service.web.dashboard import results
from service.web.dashboard.course import Course

NAMES = ("ada", "carl", "cleo", "vera", "nobody", "north", "south", "east")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def test_the_pages_need_no_torch_and_no_cloud():
    code = "import sys, service.web.dashboard; sys.exit(bool({'torch', 'boto3', 'mangum'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def pages(office):
    runs = {name: f"/runs/{run.id}" for name, run in office.runs.items()}
    more = [f"{path}/{name}" for path in runs.values() for name in ("audit", "results")]
    account = f"/accounts/{office.subs['north']}"
    return ["/", "/invitations", "/accounts", account, "/password", "/runs/new", *runs.values(), *more]


@pytest.mark.parametrize("name", ["ada", "carl", "vera", "north", "nobody"])
def test_every_page_is_strict_and_holds_no_foreign_markup_and_nothing_inline(lived, name):
    browser = lived.browser(name)
    for path in pages(lived):
        answer = browser.client.get(path)
        assert answer.status_code in (200, 403, 404), (path, answer.status_code)
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text
        assert not re.search(r"<[^>]*\s(?:on[a-z]+|style)=", answer.text), path
        assert re.findall(r"<script[^>]*>", answer.text) == re.findall(
            r'<script type="module" src="/static/[0-9a-f]{12}/main.js">', answer.text
        )
        assert "<style" not in answer.text
        links = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
        assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in links), path


def test_foreign_text_is_shown_as_it_is(lived):
    for name in ("draft", "inviting"):
        page = lived.browser("carl").get(f"/runs/{lived.runs[name].id}")
        assert f"{name} {HOSTILE}" in shown_raw(page)


def shown_raw(answer):
    import html

    return html.unescape(re.sub(r"</?[a-z][^<>]*>", " ", answer.text.replace("&lt;", "\ue000")).replace("\ue000", "<"))


def test_characters_that_hide_or_turn_are_marked():
    from service.web.dashboard.templates import template

    assert "a\ufffdb\ufffdc" in template("parts.html").module.message("a\u202eb\u200bc")


@pytest.mark.parametrize(("name", "seen"), [("ada", 200), ("carl", 200), ("vera", 200), ("cleo", 404), ("nobody", 404)])
def test_a_run_is_seen_by_those_in_it_and_by_administrators(lived, name, seen):
    browser = lived.browser(name)
    for path in ("", "/audit", "/results", "/pulse"):
        assert browser.client.get(f"/runs/{lived.runs['completed'].id}{path}").status_code == seen
    listed = "a completed one" in shown(browser.get("/"))
    assert listed == (seen == 200)
    assert browser.client.get(f"/runs/{lived.runs['draft'].id}").status_code == (
        200 if name in ("ada", "carl") else 404
    )


@pytest.mark.parametrize("path", ["/runs/x", "/runs/%00", "/accounts/x", "/runs/x/results", "/nowhere", "/a/b/c"])
def test_what_is_not_there_is_told_as_a_page(office, path):
    answer = office.browser("ada").get(path, 404)
    assert "That was not done" in shown(answer) and answer.headers["content-security-policy"] == POLICY
    assert office.browser().get(path, 303).headers["location"].startswith("/login")


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1"])
def test_the_api_tells_of_what_is_not_there_in_its_own_way(office, path):
    assert office.browser("ada").get(path, 404).headers["content-type"] == "application/problem+json"
    assert office.browser("ada").get("/v1/auth/login", 405).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ada"])
def test_only_administrators_keep_accounts(office, name):
    browser = office.browser(name)
    browser.get("/accounts", 403)
    assert browser.send("/accounts", "/password", name="x", password=SOUND).status_code == 403
    other = office.subs["south" if name == "north" else "north"]
    assert browser.client.get(f"/accounts/{other}").status_code in (403, 404)
    verbs = {"verb": "change", "role-administrator": "on"}
    assert browser.send(f"/accounts/{office.subs[name]}", "/password", **verbs).status_code in (200, 403)
    assert "administrator" not in office.local.records.account(office.subs[name]).roles


def test_an_administrator_makes_and_changes_accounts(office):
    browser = office.browser("ada")
    made = browser.send("/accounts", name="new site", **{"role-site": "on"})
    page = browser.follow(made)
    assert "The account is made." in shown(page)
    sub = made.headers["location"].split("/")[2].split("?")[0]
    assert office.local.records.account(sub).roles == {"site"}
    answer = browser.send("/accounts", name="new site", **{"role-viewer": "on"})
    assert answer.status_code == 409 and "The name is taken" in shown(answer)
    assert browser.send("/accounts", name="  ").status_code == 422
    assert browser.send("/accounts", name="weak", password="123456").status_code == 422
    verbs = {"verb": "change", "role-viewer": "on", "disabled": "on"}
    browser.follow(browser.send(f"/accounts/{sub}", **verbs))
    account = office.local.records.account(sub)
    assert account.roles == {"viewer"} and account.disabled
    answer = browser.send(f"/accounts/{office.subs['ada']}", verb="change", **{"role-viewer": "on"})
    assert answer.status_code == 409 and "No administrator would be left" in shown(answer)


def test_a_site_makes_and_revokes_its_credentials_and_sees_a_token_once(office):
    browser, path = office.browser("north"), f"/accounts/{office.subs['north']}"
    page = browser.send(path, verb="mint", label=HOSTILE[:60])
    kept = json.loads(re.search(r"\{&quot;server&quot;.*?\}", page.text)[0].replace("&quot;", '"'))
    assert office.local.verify(kept["token"]).roles == {"site"} and kept["server"] == "http://testserver"
    assert kept["token"] not in browser.get(path).text
    one = office.local.records.credentials(office.subs["north"])[0]
    assert office.browser("south").send(path, "/password", verb="revoke", credential=one.id).status_code == 404
    south = f"/accounts/{office.subs['south']}"
    assert office.browser("south").send(south, verb="revoke", credential=one.id).status_code == 404
    browser.follow(browser.send(path, verb="revoke", credential=one.id))
    with pytest.raises(Exception, match="unknown, expired or revoked"):
        office.local.verify(kept["token"])
    assert browser.get("/credentials", 303).headers["location"] == path


def test_a_draft_is_described_looked_over_changed_and_invited(office):
    browser = office.browser("carl")
    form = fields_of(browser.get("/runs/new").text)
    chosen = {f"site-{office.subs[name]}": "on" for name in ("north", "south")}
    sent = {**form, "name": "tissue", "description": "two\nlines", "set-epochs": "3", **chosen, "quorum": "2"}
    sent["preparation"] = "spacing: 1 x 1 x 1"
    page = browser.follow(browser.send("/runs/new", **sent))
    run = reading.runs(office.desk, ROOT)[0][0]
    assert run.digest in page.text and "Nobody" not in shown(page)
    spec = run.wanted
    assert (spec.name, spec.description, spec.quorum) == ("tissue", "two lines", 2)
    assert spec.settings["epochs"] == 3 and spec.preparation == {"spacing": "1 x 1 x 1"}
    assert {one.site for one in spec.participants} == {"north", "south"}
    before = fields_of(browser.get(f"/runs/{run.id}/edit").text)
    browser.follow(browser.client.post(f"/runs/{run.id}/edit", data=before))
    assert reading.run(office.desk, ROOT, run.id).digest == run.digest, "the form says the same as the spec"
    browser.follow(browser.client.post(f"/runs/{run.id}/edit", data={**before, "set-seed": "7"}))
    changed = reading.run(office.desk, ROOT, run.id)
    assert changed.wanted.settings["seed"] == 7 and changed.digest != run.digest
    page = browser.follow(browser.send(f"/runs/{run.id}", verb="invite"))
    assert "The sites are invited." in shown(page)
    assert browser.client.get(f"/runs/{run.id}/edit").status_code == 409


def test_a_draft_keeps_those_whose_accounts_are_gone_until_they_are_taken_out(office):
    run = office.make(invited=False)
    office.local.accounts.change(office.subs["south"], disabled=True)
    browser = office.browser("carl")
    form = fields_of(browser.get(f"/runs/{run.id}/edit").text)
    browser.follow(browser.client.post(f"/runs/{run.id}/edit", data=form))
    assert {one.site for one in reading.run(office.desk, ROOT, run.id).wanted.participants} == {"north", "south"}
    del form[f"site-{office.subs['south']}"]
    browser.follow(browser.client.post(f"/runs/{run.id}/edit", data=form))
    assert {one.site for one in reading.run(office.desk, ROOT, run.id).wanted.participants} == {"north"}


@pytest.mark.parametrize(
    ("typed", "wanted"), [("32", [32] * 3), ("32, 32 48", [32, 32, 48]), ("8x8×8", [8] * 3), ("0", [0] * 3)]
)
def test_sides_are_typed_as_people_write_them(office, typed, wanted):
    browser = office.browser("carl")
    form = fields_of(browser.get("/runs/new").text) | {f"site-{office.subs['north']}": "on", "name": "x"}
    browser.follow(
        browser.client.post("/runs/new", data={**form, "set-patch_size": typed, "set-class_weights": "1,2 1"})
    )
    settings = reading.runs(office.desk, ROOT)[0][0].wanted.settings
    assert list(settings["patch_size"]) == wanted and list(settings["class_weights"]) == [1, 2, 1]


def test_sent_twice_a_form_makes_one_run(office):
    browser = office.browser("carl")
    form = fields_of(browser.get("/runs/new").text)
    form |= {f"site-{office.subs['north']}": "on", "name": "once"}
    first, second = (browser.client.post("/runs/new", data=form) for _ in range(2))
    assert first.headers["location"] == second.headers["location"]
    assert len(reading.runs(office.desk, ROOT)[0]) == 1


WRONG = [
    ({"name": " "}, "name"),
    ({"quorum": "9"}, "quorum"),
    ({"quorum": "many"}, "quorum"),
    ({"deadline": "0"}, "deadline"),
    ({"set-learning_rate": "much"}, "set-learning_rate"),
    ({"set-learning_rate": "nan"}, "set-learning_rate"),
    ({"set-epochs": "-1"}, "set-epochs"),
    ({"set-epochs": "9" * 5000}, "set-epochs"),
    ({"set-classes": "one"}, "set-classes"),
    ({"set-patch_size": "1, 2"}, "set-patch_size"),
    ({"set-model": "meshnet-1x1"}, "set-model"),
    ({"preparation": "no colon"}, "preparation"),
]


@pytest.mark.parametrize(("changes", "field"), WRONG, ids=lambda value: next(iter(value)) if value else "")
def test_what_cannot_be_is_told_at_its_field_and_what_was_typed_stays(office, changes, field):
    browser = office.browser("carl")
    form = fields_of(browser.get("/runs/new").text)
    form |= {f"site-{office.subs['north']}": "on", "name": "kept", "description": "kept too", **changes}
    answer = browser.client.post("/runs/new", data=form)
    assert answer.status_code == 422 and 'role="alert"' in answer.text
    assert not field or f'href="#{field}"' in answer.text
    again = fields_of(answer.text)
    name = next(iter(changes))
    assert name == "set-model" or again[name].strip() == changes[name].strip()
    assert again["description"] == "kept too"
    assert f"site-{office.subs['north']}" in again
    assert not reading.runs(office.desk, ROOT)[0]


def test_a_run_without_sites_is_refused(office):
    browser = office.browser("carl")
    answer = browser.client.post("/runs/new", data={**fields_of(browser.get("/runs/new").text), "name": "x"})
    assert answer.status_code == 422 and 'href="#participants"' in answer.text


@pytest.mark.parametrize("name", ["vera", "north", "nobody"])
def test_only_coordinators_make_runs(office, name):
    browser = office.browser(name)
    browser.get("/runs/new", 403)
    assert browser.send("/runs/new", "/password", name="x").status_code == 403


VERBS = ("invite", "start", "pause", "resume", "abort", "delete", "remove")


@pytest.mark.parametrize("name", ["vera", "north", "cleo", "nobody"])
@pytest.mark.parametrize("verb", VERBS)
def test_only_its_own_coordinator_steers_a_run(office, name, verb):
    run = office.make()
    answer = office.browser(name).send(f"/runs/{run.id}", "/password", verb=verb, site="south", digest=run.digest)
    assert answer.status_code in (403, 404)
    assert reading.run(office.desk, ROOT, run.id) == run


def test_a_run_is_steered_from_its_page(office):
    run = office.make()
    browser = office.browser("carl")
    path = f"/runs/{run.id}"
    assert "The run can start once 1 site has accepted." in shown(browser.get(path))
    answer = browser.send(path, verb="start")
    assert answer.status_code == 409 and "0 sites have accepted" in shown(answer)
    office.site(run.id, "north").accept()
    page = browser.follow(browser.send(path, verb="start"))
    assert "The run has started." in shown(page)
    assert "paused" in shown(browser.follow(browser.send(path, verb="pause")))
    assert browser.client.get(path).text.count("data-until") == 0
    assert "Running" in shown(browser.follow(browser.send(path, verb="resume")))
    browser.follow(browser.send(path, verb="remove", site="south"))
    office.browser("south").get(path, 404)
    page = browser.follow(browser.send(path, verb="abort"))
    assert "The run was aborted" in shown(page) and "data-live" not in page.text
    assert browser.send(path, "/password", verb="nonsense").status_code == 200
    page = browser.follow(browser.send(path, "/password", verb="delete", digest=run.digest))
    assert "deleted" in shown(page)
    browser.get(path, 404)


def test_an_invited_site_sees_the_command_that_accepts_and_may_decline(office):
    run = office.make()
    browser = office.browser("north")
    page = browser.get("/invitations")
    assert f"join http://testserver --run {run.id} --consent {run.digest}" in shown(page)
    browser.follow(browser.send(f"/runs/{run.id}", verb="decline"))
    assert "Declined" in shown(browser.get("/invitations"))
    assert browser.client.get(f"/runs/{run.id}").status_code == 200
    assert browser.send(f"/runs/{run.id}", "/password", verb="leave").status_code == 409


def test_a_site_leaves(office):
    run = office.make()
    office.begin(run.id)
    browser = office.browser("north")
    assert "Leave the run" in shown(browser.get(f"/runs/{run.id}"))
    browser.follow(browser.send(f"/runs/{run.id}", verb="leave"))
    assert "Left" in shown(office.browser("carl").get(f"/runs/{run.id}"))


def test_results_and_files_are_those_that_were_published(lived):
    run = lived.runs["completed"].id
    browser = lived.browser("vera")
    page = browser.get(f"/runs/{run}/results")
    files = re.findall(r'href="(/runs/[^"]*/files/[^"]*)"', page.text)
    hashes = re.findall(r'<code class="hash">([0-9a-f]{64})</code>', page.text)
    assert len(files) == len(hashes) == 6
    for path, wanted in zip(files, hashes, strict=True):
        answer = browser.get(path)
        assert hashlib.sha256(answer.content).hexdigest() == wanted
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert lived.browser("cleo").client.get(files[0]).status_code == 404
    for path in ("99/index.html", "1/..%2f..%2fservice.db", "0/journal.jsonl", "-1/index.html", "1/x"):
        assert browser.client.get(f"/runs/{run}/files/{path}").status_code == 404


@pytest.mark.parametrize(("chosen", "note"), [(True, "by pooled validation Dice"), (False, "the last one")])
def test_the_best_model_is_not_said_to_be_chosen_where_no_validation_chose_it(chosen, note):
    found = Results(2, "f" * 64, 2, "f" * 64, {}, {}, chosen=chosen)
    assert ("Best model", "round 2", note) in results._headline(Course(results=found), ("background", "tissue"))


def test_the_numbers_are_the_centres(lived):
    run = reading.run(lived.desk, ROOT, lived.runs["completed"].id)
    course = lived.front.courses.of(ROOT, run)
    metrics = reading.content(lived.desk, ROOT, run.id, run.step, "metrics.csv").decode().splitlines()
    named = metrics[0].split(",")
    losses = [float(line.split(",")[named.index("loss")]) for line in metrics[1:]]
    assert [item.loss for item in course.rounds] == pytest.approx(losses, rel=1e-5)
    assert course.plan.rounds == len(course.rounds) and course.results.rounds == len(course.rounds)
    assert lived.front.courses.of(ROOT, run).rounds == course.rounds
    page = shown(lived.browser("carl").get(f"/runs/{run.id}"))
    assert "Training loss" in page and "grey matter" in page


def test_the_running_page_says_what_each_site_does(lived):
    page = shown(lived.browser("carl").get(f"/runs/{lived.runs['running'].id}"))
    assert "Uploaded" in page and "Training" in page and "1 of 2" in page


def test_what_is_new_changes_the_pulse(office):
    run = office.make()
    browser, path = office.browser("carl"), f"/runs/{run.id}/pulse"
    seen = [browser.get(path).json()["pulse"]]
    office.site(run.id, "north").accept()
    seen.append(browser.get(path).json()["pulse"])
    browser.send(f"/runs/{run.id}", verb="start")
    seen.append(browser.get(path).json()["pulse"])
    site.heartbeat(office.desk, office.who("north"), run.id, "training")
    seen.append(browser.get(path).json()["pulse"])
    assert len(set(seen)) == 4 and browser.get(path).json()["pulse"] == seen[-1]
    assert office.browser("cleo").client.get(path).status_code == 404


def test_a_page_holds_the_pulse_that_it_was_made_at(office):
    run = office.make()
    own = f"/runs/{run.id}"
    pages = [("carl", "/", "/pulse"), ("north", "/invitations", "/pulse"), ("carl", own, f"{own}/pulse")]
    for name, path, asked in pages:
        browser = office.browser(name)
        assert f'data-held="{browser.get(asked).json()["pulse"]}"' in browser.get(path).text


def test_the_latest_events_are_the_last_of_the_trail(lived):
    for run in lived.runs.values():
        whole = [one.id for one in reading.events(lived.desk, ROOT, run.id, "", 200)[0]]
        for most in (1, 5, 12, 200):
            found = [one.id for one in looking.latest(lived.desk, ROOT, run.id, most)]
            assert found == whole[::-1][:most]


def test_published_steps_are_the_same_one_by_one_and_in_pages(lived, monkeypatch):
    run = lived.runs["completed"].id
    one_by_one = list(looking.published(lived.desk, ROOT, run, 2))
    monkeypatch.setattr(looking, "_FEW", 0)
    assert list(looking.published(lived.desk, ROOT, run, 2)) == one_by_one


def test_a_service_that_fails_says_so_on_a_page(office, monkeypatch):
    browser = office.browser("carl")

    def broken(*_):
        raise RuntimeError("a secret path /home/x")

    monkeypatch.setattr(office.desk.store, "memberships_of", broken)
    answer = browser.client.get("/")
    assert answer.status_code == 500 and "The service failed at this" in shown(answer) and "secret" not in answer.text
    assert answer.headers["content-security-policy"] == POLICY


def test_static_files_are_kept_by_browsers_under_the_name_of_their_content(office):
    browser = office.browser()
    page = browser.get("/login").text
    for path in re.findall(r'(?:href|src)="(/static/[^"]*)"', page):
        answer = browser.get(path)
        assert "immutable" in answer.headers["cache-control"] and answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/static/x/main.js", "/favicon.ico"):
        assert "immutable" not in browser.get(path).headers["cache-control"]
    for path in ("/static/x/..%2f..%2fapp.py", "/static/x/none.js", "/static/x/main.js/../../app.py"):
        assert browser.client.get(path).status_code in (303, 404)
    for name in ("live.js", "main.js", "clock.js", "copy.js"):
        text = browser.get(f"/static/x/{name}").text
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|\.outerHTML\s*=[^=]|https?://", text)
