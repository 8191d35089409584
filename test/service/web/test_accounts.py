"""Accounts and tokens over HTTP: who may do what, and what an attacker learns."""

import asyncio
import threading

import pytest
from houses import SOUND

#: Nothing here depends on the store.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def test_a_login_gives_tokens_that_work_until_the_logout(house):
    nobody = house.client()
    given = nobody.post("/v1/auth/login", {"name": "CARL", "password": SOUND}).json()
    carl = house.client(given["access"])
    assert carl.get("/v1/me").json() == given["principal"]
    assert given["principal"]["subject"] == house.subjects["carl"] and given["principal"]["roles"] == ["coordinator"]
    house.clock.forward(901)
    assert carl.get("/v1/me").status_code == 401
    renewed = nobody.post("/v1/auth/refresh", {"refresh": given["refresh"]}).json()
    carl = house.client(renewed["access"])
    assert carl.post("/v1/auth/logout").status_code == 204
    assert carl.get("/v1/me").status_code == 401
    assert nobody.post("/v1/auth/refresh", {"refresh": given["refresh"]}).status_code == 401


def test_a_name_that_does_not_exist_looks_like_a_wrong_password(house):
    nobody = house.client()
    seen = set()
    for name, password in (("carl", "wrong"), ("nobody", SOUND), ("carl ", SOUND), ("' OR 1=1 --", "x"), ("", "")):
        answer = nobody.post("/v1/auth/login", {"name": name, "password": password})
        document = answer.json()
        document.pop("request")
        seen.add((answer.status_code, str(document)))
    assert len(seen) == 1


def test_a_flood_of_guesses_is_told_to_wait(house):
    nobody = house.client()
    statuses = [
        nobody.post("/v1/auth/login", {"name": "carl", "password": f"guess {number}"}).status_code
        for number in range(7)
    ]
    assert statuses == 5 * [401] + 2 * [429]
    answer = nobody.post("/v1/auth/login", {"name": "carl", "password": SOUND})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    house.clock.forward(1)
    assert nobody.post("/v1/auth/login", {"name": "carl", "password": SOUND}).status_code == 200


def test_a_new_password_ends_all_sessions(house):
    carl = house.client("carl")
    body = {"old": SOUND, "new": "staple battery horse"}
    assert carl.post("/v1/auth/password", {**body, "old": "wrong"}).status_code == 401
    assert carl.post("/v1/auth/password", {**body, "new": "short"}).status_code == 422
    assert carl.post("/v1/auth/password", body).status_code == 204
    assert carl.get("/v1/me").status_code == 401
    assert house.client().post("/v1/auth/login", {"name": "carl", "password": body["new"]}).status_code == 200


def test_administrators_make_accounts_and_nobody_else_does(house):
    body = {"name": "Zoë <script>", "roles": ["site", "viewer"], "password": SOUND}
    for name in ("carl", "vera", "north"):
        assert house.client(name).post("/v1/accounts", body).status_code == 403
        path = f"/v1/accounts/{house.subjects[name]}"
        assert house.client(name)("PATCH", path, body={"roles": ["administrator"]}).status_code == 403
    ada = house.client("ada")
    made = ada.post("/v1/accounts", body)
    assert made.status_code == 201 and made.json()["name"] == body["name"] and "hash" not in made.text
    assert ada.post("/v1/accounts", body).status_code == 409
    for wrong in ({"roles": ["root"]}, {"name": ""}, {"name": "a\u202eb"}, {"password": "short"}, {"sub": "x"}):
        assert ada.post("/v1/accounts", {**body, "name": "other", **wrong}).status_code == 422
    path = f"/v1/accounts/{made.json()['subject']}"
    assert ada("PATCH", path, body={"roles": ["viewer"], "disabled": True}).json()["disabled"]
    assert ada("PATCH", "/v1/accounts/nobody", body={}).status_code == 404
    assert ada("PATCH", f"/v1/accounts/{house.subjects['ada']}", body={"disabled": True}).status_code == 409


def test_a_coordinator_sees_whom_it_may_invite_and_others_see_nobody(house):
    def seen(name):
        answer = house.client(name).get("/v1/accounts")
        return {one["name"] for one in answer.json()["items"]} if answer.status_code == 200 else answer.status_code

    house.local.accounts.change(house.subjects["east"], disabled=True)
    assert seen("ada") == set(house.subjects)
    assert seen("carl") == {"north", "south", "vera"}
    assert seen("north") == seen("vera") == 403
    assert "argon2" not in house.client("ada").get("/v1/accounts").text


@pytest.mark.parametrize("name", ["ada", "north"])
def test_a_sites_credential_is_shown_once_works_as_a_site_and_can_be_revoked(house, name):
    client, path = house.client(name), f"/v1/accounts/{house.subjects['north']}/credentials"
    made = client.post(path, {"label": "machine room"}).json()
    shown = client.get(path)
    assert made["token"] not in shown.text and [one["id"] for one in shown.json()["items"]] == [made["id"]]
    machine = house.client(made["token"])
    assert machine.get("/v1/me").json() | {"since": 0} == {
        "subject": house.subjects["north"], "name": "north", "roles": ["site"], "since": 0, "machine": True,
    }  # fmt: skip
    # What lies on a disk makes no other ones, sees none, and revokes none.
    assert machine.post(path, {"label": "another"}).status_code == 404
    assert machine.get(path).status_code == machine("DELETE", f"{path}/{made['id']}").status_code == 404
    assert client("DELETE", f"{path}/{made['id']}").status_code == 204
    assert machine.get("/v1/me").status_code == 401
    assert client("DELETE", f"{path}/x").status_code == 404


def test_nobody_touches_anothers_credentials(house):
    path = f"/v1/accounts/{house.subjects['north']}/credentials"
    made = house.client("ada").post(path, {"label": "x"}).json()
    other = f"/v1/accounts/{house.subjects['south']}/credentials"
    for name in ("south", "carl", "vera"):
        client = house.client(name)
        assert client.get(path).status_code == client.post(path, {"label": "x"}).status_code == 404
        assert client("DELETE", f"{path}/{made['id']}").status_code == 404
    assert house.client("south")("DELETE", f"{other}/{made['id']}").status_code == 404
    assert house.client(made["token"]).get("/v1/me").status_code == 200


def test_a_role_that_was_taken_away_counts_no_more_in_the_middle_of_a_run(house):
    carl = house.client("carl")
    run = f"/v1/runs/{carl.post('/v1/runs', house.spec()).json()['id']}"
    house.local.accounts.change(house.subjects["carl"], roles=["viewer"])
    assert carl.post(f"{run}/invite").status_code == 403
    assert carl.post("/v1/runs", house.spec()).status_code == 403


def test_a_flood_of_logins_takes_no_thread_from_others(house, monkeypatch):
    slow = threading.Event()
    monkeypatch.setattr(house.local, "login", lambda *_: slow.wait(60) and house.local.refresh("nobody's"))

    async def course():
        nobody, vera = house.client(), house.client("vera")
        body = {"name": "vera", "password": "guess"}
        flood = [asyncio.create_task(nobody.asks("POST", "/v1/auth/login", body=body)) for _ in range(100)]
        while sum([task.done() for task in flood]) < 66:
            await asyncio.sleep(0.01)
        looks = [(await vera.asks("GET", "/v1/runs")).status_code for _ in range(5)]
        slow.set()
        return looks, sorted([answer.status_code for answer in await asyncio.gather(*flood)])

    looks, statuses = asyncio.run(course())
    assert looks == 5 * [200] and statuses == 34 * [401] + 66 * [429]


def test_many_logins_at_once_are_many_sessions(house):
    async def course():
        client = house.client()
        asked = [client.asks("POST", "/v1/auth/login", body={"name": "vera", "password": SOUND}) for _ in range(4)]
        return [answer.json() for answer in await asyncio.gather(*asked)]

    given = asyncio.run(course())
    assert len({one["access"] for one in given}) == 4
    house.client(given[0]["access"]).post("/v1/auth/logout")
    assert [house.client(one["access"]).get("/v1/me").status_code for one in given] == [401, 200, 200, 200]
