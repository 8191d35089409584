"""Whole runs over HTTP: real sites, the real worker, and the bits that COINSTAC's own course ends with."""

import asyncio
import base64
import hashlib

import pytest
from consortium import SHORT, consortium, database

from computation import local
from computation.coinstac.carried import Carried
from service.cases.desk import active
from service.worker import Worker


class Site:
    """A site: COINSTAC's handler, and a client of the API around it."""

    def __init__(self, client, folder, name, run, seed, inline):
        self.client, self.run, self.inline = client, f"/v1/runs/{run}", inline
        data = database(folder / "made" / name / "site.db", seed=seed, scans=(2, 1, 1))
        self.handler = Carried(local.create(), folder / "sites" / name, name, lent={"site.db": data})

    async def asks(self, method, path, **rest):
        return await self.client.asks(method, path, **rest)

    async def content(self, number, message, files):
        answer = await asyncio.to_thread(self.handler.call, number + 1, message, files)
        if self.inline:
            inline = {name: base64.b64encode(data).decode() for name, data in answer.files.items()}
            return {"message": answer.output, "inline": inline}
        return {
            "message": answer.output,
            "uploads": [await self.sent(number, name, data) for name, data in answer.files.items()],
        }

    async def sent(self, number, name, data):
        told = {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        upload = (await self.asks("POST", f"{self.run}/rounds/{number}/uploads", body=told)).json()
        send = upload["send"]
        answer = await self.asks(send["method"], send["url"], content=data, headers=send["headers"], checked=False)
        assert answer.status_code == 201, answer.text
        return upload["id"]

    async def takes(self, number):
        """Wait for the result of a step, and return it with its files."""
        while True:
            query = {"wait": 20, "inline": 100_000 if self.inline else 0}
            answer = await self.asks("GET", f"{self.run}/rounds/{number}/result", params=query)
            if answer.status_code == 200:
                break
            assert answer.status_code == 202 and answer.headers["retry-after"]
        result, files = answer.json(), {}
        for file in result["files"]:
            fetch = file["fetch"]
            data = base64.b64decode(file["content"]) if self.inline else None
            data = data or (await self.asks(fetch["method"], fetch["url"], checked=False)).content
            assert hashlib.sha256(data).hexdigest() == file["sha256"]
            files[file["name"]] = data
        return result, files

    async def runs(self):
        run = (await self.asks("GET", self.run)).json()
        content = await self.content(0, {**run["spec"]["settings"], "data": ["site.db"]}, {})
        first = await self.asks("POST", f"{self.run}/accept", body={"consent": run["digest"], **content})
        again = await self.asks("POST", f"{self.run}/accept", body={"consent": run["digest"], **content})
        assert (first.status_code, again.status_code) == (201, 200) and first.json() == again.json()
        number = 0
        while True:
            result, files = await self.takes(number)
            if result["last"]:
                return result["message"]["model_digest"]
            number += 1
            content = await self.content(number, result["message"], files)
            step = (await self.asks("GET", f"{self.run}/round")).json()["step"]
            body = {"base": step["base"], **content}
            assert (await self.asks("POST", f"{self.run}/rounds/{number}/updates", body=body)).status_code == 201


async def _course(house, folder, run, sites, carl):
    def work(worker, done):
        listener = house.bell.listen()
        while not done.is_set():
            worker.look()
            listener.wait(0.5)
        listener.close()

    done = asyncio.Event()
    with Worker(house.desk, folder / "work") as worker:
        working = asyncio.create_task(asyncio.to_thread(work, worker, done))
        digests = [asyncio.create_task(site.runs()) for site in sites]
        while True:
            members = (await carl.asks("GET", f"/v1/runs/{run}/members")).json()["items"]
            if sum(one["state"] == "accepted" for one in members if one["role"] == "site") == len(sites):
                break
            await asyncio.sleep(0.05)
        assert (await carl.asks("POST", f"/v1/runs/{run}/start")).status_code == 200
        try:
            return await asyncio.gather(*digests)
        finally:
            done.set()
            await working


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "uploads"])
def test_a_run_over_http_ends_with_the_model_of_coinstacs_course(house, tmp_path, inline):
    wanted = consortium(tmp_path / "loop", 2).run()["model_digest"]
    settings = {name: value for name, value in SHORT.items() if name != "data"}
    carl = house.client("carl")
    names = {"north": "local0", "south": "local1"}
    participants = [{"subject": house.subjects[name], "site": site} for name, site in names.items()]
    spec = {**house.spec(settings=settings), "participants": participants}
    run = carl.post("/v1/runs", spec).json()["id"]
    assert carl.post(f"/v1/runs/{run}/invite").json()["state"] == "inviting"
    sites = [
        Site(house.client(name), tmp_path, site, run, seed, inline) for seed, (name, site) in enumerate(names.items())
    ]
    assert set(asyncio.run(_course(house, tmp_path, run, sites, carl))) == {wanted}
    _told(house, run)
    assert not list(active(house.desk))


def _told(house, run):
    """What is to be seen of a run that has ended."""
    vera = house.client("vera")
    shown = vera.get(f"/v1/runs/{run}").json()
    assert (shown["state"], shown["you"]["role"]) == ("completed", "viewer")
    points = vera.get(f"/v1/runs/{run}/metrics").json()["items"]
    assert [point["round"] for point in points] == list(range(1, shown["rounds"] + 1))
    models = vera.get(f"/v1/runs/{run}/model").json()["items"]
    assert set(models) == {"final", "best"}
    fetched = vera.get(models["final"]["fetch"]["url"], checked=False)
    assert hashlib.sha256(fetched.content).hexdigest() == models["final"]["sha256"]
    assert "attachment" in fetched.headers["content-disposition"]
    report = vera.get(f"/v1/runs/{run}/report").json()
    assert report["results"]["rounds"] == shown["rounds"]
    assert {paper["name"] for paper in report["papers"]} >= {"index.html", "metrics.csv"}
    kinds = [one["kind"] for one in vera.get(f"/v1/runs/{run}/events?limit=200").json()["items"]]
    assert kinds[:2] == ["created", "invited"] and kinds[-1] == "completed"
