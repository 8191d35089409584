"""Commits in the wrong order, of the wrong content, of others, late and twice, as HTTP answers them."""

import asyncio
import base64
import hashlib
import time

import numpy as np
import pytest
from houses import SOUND
from places import BARE, FILE, Plain

from service.worker import Worker


class Running:
    """A run of two sites that compute nothing; its first training round is open."""

    def __init__(self, house, folder):
        self.house, self.carl = house, house.client("carl")
        run = self.carl.post("/v1/runs", house.spec(settings=BARE)).json()
        self.id, self.path = run["id"], f"/v1/runs/{run['id']}"
        self.carl.post(f"{self.path}/invite")
        self.sites = {name: Plain(house.desk, name, self.id) for name in ("north", "south")}
        self.worker = Worker(house.desk, folder / "work")
        for name, site in self.sites.items():
            body = {"consent": run["digest"], "message": site.joins()}
            assert house.client(name).post(f"{self.path}/accept", body).status_code == 201
        self.carl.post(f"{self.path}/start")
        self.worker.look()

    def body(self, name, number=1, **changes):
        content = self.sites[name].content(number, **changes)
        inline = {name: base64.b64encode(data).decode() for name, data in content.inline.items()}
        return {"base": content.base, "message": content.message, "inline": inline}

    def commit(self, name, body, number=1):
        answer = self.house.client(name).post(f"{self.path}/rounds/{number}/updates", body)
        return answer.status_code, answer.json().get("code", "")

    def both(self, number=1):
        for name in self.sites:
            assert self.commit(name, self.body(name, number), number)[0] == 201
        self.worker.look()


@pytest.fixture
def running(house, tmp_path):
    made = Running(house, tmp_path)
    yield made
    made.worker.close()


def test_a_commit_counts_once_and_nothing_replaces_it(running):
    body = running.body("north")
    assert running.commit("north", body) == (201, "")
    assert running.commit("north", body) == (200, "")
    assert running.commit("north", running.body("north", seed=1)) == (409, "other_content")


def test_of_many_equal_commits_at_once_one_is_new(running):
    client, body = running.house.client("north"), running.body("north")

    async def at_once():
        asked = [client.asks("POST", f"{running.path}/rounds/1/updates", body=body) for _ in range(8)]
        return sorted([answer.status_code for answer in await asyncio.gather(*asked)])

    assert asyncio.run(at_once()) == 7 * [200] + [201]


def while_waiting(running, *names, then):
    """Commit and wait for the result; then something happens. Return the answers."""

    async def course():
        query = {"wait": 20, "inline": 100_000}
        asked = [
            running.house.client(name).asks(
                "POST", f"{running.path}/rounds/1/updates", body=running.body(name), params=query
            )
            for name in names
        ]

        async def later():
            while len(running.house.desk.store.updates(running.id, 1)) < len(names):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(then)

        return (await asyncio.gather(*asked, later()))[:-1]

    begun = time.monotonic()
    answers = asyncio.run(course())
    assert time.monotonic() - begun < 15 and running.house.app.state.waiting._count == 0
    return answers


def test_a_commit_that_waits_brings_the_result_of_its_step(running):
    answers = while_waiting(running, "north", "south", then=running.worker.look)
    assert [answer.status_code for answer in answers] == [201, 201]
    told = running.house.client("north").get(f"{running.path}/rounds/1/result?inline=100000").json()
    for answer in answers:
        result = answer.json()["result"]
        assert (result["digest"], result["message"]) == (told["digest"], told["message"])
        assert [file["content"] for file in result["files"]] == [file["content"] for file in told["files"]]
    again = running.house.client("north").post(f"{running.path}/rounds/1/updates?wait=20", running.body("north"))
    assert (again.status_code, again.json()["result"]["digest"]) == (200, told["digest"])
    assert "content" not in again.json()["result"]["files"][0]


def test_what_one_site_was_just_shown_nobody_sees_who_is_out_since(running):
    running.both()
    path = f"{running.path}/rounds/1/result?inline=100000"
    north, south, cleo = (running.house.client(name) for name in ("north", "south", "cleo"))
    shown = north.get(path)
    assert shown.status_code == 200 and south.get(path).content == shown.content
    assert cleo.get(path).status_code == 404
    running.carl("DELETE", f"{running.path}/members/south")
    assert south.get(path).status_code == 404
    running.house.local.accounts.change(running.house.subjects["north"], disabled=True)
    assert north.get(path).status_code == 401
    fetch = shown.json()["files"][0]["fetch"]
    running.house.clock.forward(600)
    fresh = running.carl.get(path).json()["files"][0]["fetch"]
    assert fresh["expires"] == fetch["expires"] + 600_000


def test_a_commit_counts_though_its_run_is_aborted_while_it_waits(running):
    (answer,) = while_waiting(running, "north", then=lambda: running.carl.post(f"{running.path}/abort"))
    assert answer.status_code == 201 and "result" not in answer.json()
    assert len(running.house.desk.store.updates(running.id, 1)) == 1


def test_who_is_let_in_no_more_while_it_waits_is_told_nothing(running):
    def put_out():
        running.house.local.accounts.change(running.house.subjects["north"], disabled=True)
        running.house.bell(running.id)

    (answer,) = while_waiting(running, "north", then=put_out)
    assert answer.status_code == 401
    assert len(running.house.desk.store.updates(running.id, 1)) == 1


def test_a_commit_to_another_step_is_refused_and_the_current_one_is_named(running):
    running.both()
    assert running.commit("north", running.body("north", 2), 1) == (409, "other_content")
    assert running.commit("north", running.body("north", 2), 3) == (409, "not_open")
    assert running.commit("north", running.body("north", 2), 999_999_999) == (409, "not_open")
    assert running.commit("north", running.body("north", 2), 0)[0] == 409
    assert running.commit("north", running.body("north", 2), -1)[0] in (404, 409)
    assert running.commit("north", running.body("north", 2), 10**30)[0] in (404, 409)
    assert running.commit("north", running.body("north", 2), 2) == (201, "")


def test_who_comes_too_late_is_told_where_the_run_stands(running):
    running.carl("DELETE", f"{running.path}/members/south")
    assert running.commit("north", running.body("north"))[0] == 201
    running.worker.look()
    body = running.body("north", 2)
    other = running.house.client("north").post(f"{running.path}/rounds/0/updates", body)
    assert other.status_code == 409
    running.house.desk.store.update = lambda *_: None  # as if this site had committed nothing in time
    late = running.house.client("north").post(f"{running.path}/rounds/1/updates", body).json()
    assert (late["code"], late["details"]) == ("round_closed", {"step": 2})


def test_what_was_computed_on_something_else_is_refused(running):
    assert running.commit("north", running.body("north", base="0" * 64)) == (409, "wrong_base")
    assert running.commit("north", running.body("north", model="0" * 64)) == (409, "wrong_model")
    assert running.commit("north", {**running.body("north"), "base": "x"}) == (422, "malformed")


def test_nobody_commits_for_another_or_into_anothers_run(running):
    body = running.body("north")
    assert running.commit("east", body)[0] == 404
    assert running.commit("cleo", body)[0] == 404
    assert running.commit("vera", body) == (403, "not_site")
    assert running.commit("carl", body) == (403, "not_site")
    assert running.commit("ada", body) == (403, "not_site")
    assert running.commit("south", body) == (422, "message")  # the signature says whose it is
    told = {"name": FILE, "size": 10, "sha256": "0" * 64}
    for name in ("ada", "carl", "vera"):
        for number in (0, 1, 2):
            answer = running.house.client(name).post(f"{running.path}/rounds/{number}/uploads", told)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_site")
    told = {"name": FILE, "size": 10, "sha256": "0" * 64}
    size = running.house.desk.store.run(running.id).payload
    upload = running.house.client("south").post(f"{running.path}/rounds/1/uploads", {**told, "size": size}).json()
    assert running.commit("north", {**body, "inline": {}, "uploads": [upload["id"]]}) == (404, "upload")
    unsent = {**running.body("south"), "inline": {}, "uploads": [upload["id"]]}
    assert running.commit("south", unsent) == (409, "not_uploaded")


def test_a_paused_run_takes_nothing_and_an_aborted_one_never_again(running):
    body = running.body("north")
    running.carl.post(f"{running.path}/pause")
    assert running.commit("north", body) == (409, "run_paused")
    running.carl.post(f"{running.path}/resume")
    running.carl.post(f"{running.path}/abort")
    assert running.commit("north", body) == (410, "run_ended")
    for verb in ("start", "pause", "resume"):
        assert running.carl.post(f"{running.path}/{verb}").status_code == 410
    assert running.carl.post(f"{running.path}/abort").status_code == 200


def test_after_the_deadline_nothing_counts_whatever_the_sites_clock_says(running):
    running.house.clock.forward(3601)
    running.house.tokens["north"] = running.house.local.login("north", SOUND).access
    assert running.commit("north", running.body("north")) == (409, "deadline_passed")


def test_a_site_that_was_removed_sees_nothing_any_more(running):
    body = running.body("north")
    assert running.carl("DELETE", f"{running.path}/members/north").status_code == 200
    north = running.house.client("north")
    assert running.commit("north", body)[0] == 404
    for path in ("", "/round", "/events", "/rounds/0/result", "/model", "/members"):
        assert north.get(f"{running.path}{path}").status_code == 404
    assert north.get("/v1/runs").json()["items"] == []
    assert running.carl("DELETE", f"{running.path}/members/nobody").status_code == 404
    assert running.house.client("south")("DELETE", f"{running.path}/members/south").status_code == 403


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_values_that_are_none_are_refused(running, number):
    values = running.sites["north"].values(1)
    values[7] = number
    assert running.commit("north", running.body("north", values=values)) == (422, "payload")


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0}, {"samples": -1}, {"samples": 2**63}, {"samples": "1"}, {"samples": 1.5}, {"samples": True},
        {"loss": "low"}, {"loss": 1e300}, {"status": "<script>alert(1)</script>"}, {"reason": "x" * 100_000},
        {"more": 1}, {"round": 2}, {"model": "x"}, {"validation": {"a": 1}}, {"status": None}, {"phase": "join"},
    ],
    ids=str,
)  # fmt: skip
def test_a_message_that_says_what_cannot_be_is_refused(running, changes):
    status, code = running.commit("north", running.body("north", **changes))
    assert status == 422 and code == "message", (status, code)


def test_bytes_that_are_no_payload_are_refused(running):
    whole = running.sites["north"].content(1).inline[FILE]
    zipped = b"PK\x03\x04" + whole[4:]
    wrong = [b"", whole[:-1], whole + b"x", whole[:100], zipped, b"\x80\x04" + whole[2:], bytes(len(whole))]
    for data in wrong:
        assert running.commit("north", running.body("north", data=data))[0] in (413, 422), data[:8]
    for name in ("../x", "x.bin", "__cx_contribution.safetensors", "__cx_" + "a" * 500, "\u202e", ""):
        body = running.body("north")
        body["inline"] = {name: next(iter(body["inline"].values()))}
        assert running.commit("north", body)[0] == 422
    for text in ("x", "é", "AAA", "A A=", "=" * 8):
        body = running.body("north")
        assert running.commit("north", {**body, "inline": {FILE: text}}) == (422, "inline")
    assert running.commit("north", {**running.body("north"), "inline": {}})[0] == 422
    assert running.commit("north", running.body("north")) == (201, "")


def test_more_than_anybody_may_send_is_refused(running):
    body = running.body("north")
    assert running.commit("north", {**body, "message": {"x": "y" * 10_000_000}})[0] == 413
    assert running.commit("north", {**body, "message": {"x": "y" * 300_000}})[0] == 413
    assert running.commit("north", {**body, "uploads": 9 * ["x"]})[0] == 422
    told = {"name": FILE, "size": 2**39, "sha256": "0" * 64}
    north, path = running.house.client("north"), f"{running.path}/rounds/1/uploads"
    assert north.post(path, told).status_code == 413
    for wrong in ({"size": 0}, {"size": -1}, {"size": 2**63}, {"size": 1.5}, {"sha256": "x"}, {"name": "../../x"}):
        assert north.post(path, {**told, **wrong}).status_code == 422
    size = running.house.desk.store.run(running.id).payload
    statuses = [north.post(path, {**told, "size": size}).status_code for _ in range(34)]
    assert statuses == 32 * [201] + 2 * [429]


def test_consent_is_to_one_spec(house):
    carl = house.client("carl")
    run = carl.post("/v1/runs", house.spec(settings=BARE)).json()
    path, plain = f"/v1/runs/{run['id']}", Plain(house.desk, "north", run["id"])
    body = {"consent": run["digest"], "message": plain.joins()}
    north = house.client("north")
    assert north.post(f"{path}/accept", body).status_code == 404  # nobody was invited yet
    carl("PUT", f"{path}/spec", body=house.spec(settings={**BARE, "seed": 7}))
    carl.post(f"{path}/invite")
    assert north.post(f"{path}/accept", body).json()["code"] == "consent"
    assert carl("PUT", f"{path}/spec", body=house.spec()).status_code == 409
    again = {**body, "consent": carl.get(path).json()["digest"], "message": plain.joins()}
    for wrong, code in (({"classes": ("a", "b", "c")}, "classes"), ({"settings": {"seed": 1}}, "settings")):
        answer = north.post(f"{path}/accept", {**again, "message": plain.joins(**wrong)})
        assert answer.status_code == 422 and answer.json()["code"] in (code, "message"), answer.text
    assert north.post(f"{path}/accept", again).status_code == 201
    assert house.client("south").post(f"{path}/decline").json()["state"] == "declined"
    assert house.client("south").post(f"{path}/accept", again).status_code in (409, 410)


def test_a_spec_that_cannot_be_is_refused_and_the_nearest_name_is_given(house):
    carl = house.client("carl")
    answer = carl.post("/v1/runs", {**house.spec(), "quorom": 1})
    assert answer.status_code == 422 and "quorum" in answer.json()["detail"]
    answer = carl.post("/v1/runs", house.spec(settings={"lerning_rate": 1}))
    assert answer.status_code == 422 and "learning_rate" in answer.json()["detail"]
    for wrong in ({"quorum": 3}, {"quorum": 0}, {"deadline": 0}, {"deadline": 10**12}, {"name": ""}, {"name": "a\nb"}):
        assert carl.post("/v1/runs", house.spec(**wrong)).status_code == 422
    for site in ("../north", "a/b", "", "x" * 65, "a b", "\x00", ".."):
        spec = house.spec()
        spec["participants"][0]["site"] = site
        assert carl.post("/v1/runs", spec).status_code == 422
    assert house.client("north").post("/v1/runs", house.spec()).status_code == 403


def test_a_coordinator_of_another_run_decides_nothing_here(house):
    run = f"/v1/runs/{house.client('carl').post('/v1/runs', house.spec()).json()['id']}"
    cleo = house.client("cleo")
    for verb in ("invite", "start", "pause", "resume", "abort"):
        assert cleo.post(f"{run}/{verb}").status_code == 404
    assert cleo("PUT", f"{run}/spec", body=house.spec()).status_code == 404
    assert cleo("DELETE", run, params={"digest": "0" * 64}).status_code == 404
    assert house.client("ada").post(f"{run}/invite").status_code == 200
    for name in ("north", "vera"):
        assert house.client(name).post(f"{run}/start").status_code == 403


def test_a_run_is_deleted_with_its_files_by_whoever_names_its_digest(running):
    carl, house = running.carl, running.house
    digest = carl.get(running.path).json()["digest"]
    assert carl("DELETE", running.path, params={"digest": digest}).status_code == 409
    carl.post(f"{running.path}/abort")
    assert carl("DELETE", running.path).status_code == 422
    assert carl("DELETE", running.path, params={"digest": "0" * 64}).status_code == 422
    assert house.client("north")("DELETE", running.path, params={"digest": digest}).status_code == 403
    fetch = carl.get(f"{running.path}/rounds/0/result").json()["files"][0]["fetch"]
    assert hashlib.sha256(house.client().get(fetch["url"], checked=False).content).hexdigest()
    assert carl("DELETE", running.path, params={"digest": digest}).status_code == 204
    assert carl.get(running.path).status_code == 404
    assert house.client().get(fetch["url"], checked=False).status_code in (404, 410, 503)
