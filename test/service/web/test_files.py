"""Files under signed URLs: only what was announced, once, whole, in time, and by nobody else's URL."""

import asyncio
import hashlib

import pytest

#: Nothing here depends on the store.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def run(house):
    carl = house.client("carl")
    made = carl.post("/v1/runs", house.spec()).json()["id"]
    carl.post(f"/v1/runs/{made}/invite")
    return made


NAME = "__cx_initial.bin"


def reserved(house, run, content, size=None, name="north", number=0):
    told = {"name": NAME, "size": size or len(content), "sha256": hashlib.sha256(content).hexdigest()}
    answer = house.client(name).post(f"/v1/runs/{run}/rounds/{number}/uploads", told)
    assert answer.status_code == 201, answer.text
    return answer.json()["send"]


def put(house, send, content, method="PUT", url=None, **headers):
    return house.client()(
        method, url or send["url"], content=content, headers={**send["headers"], **headers}, checked=False
    )


@pytest.fixture(params=[1000, 400_000, 3_000_000], ids=["small", "large", "pieces"])
def content(request):
    return bytes(number % 251 for number in range(1000)) * (request.param // 1000)


def test_a_file_is_taken_once(house, run, content):
    send = reserved(house, run, content)
    assert put(house, send, content).status_code == 201
    again = put(house, send, content)
    assert again.status_code == 409 and again.json()["code"] == "exists"


def test_of_many_that_send_one_file_at_once_one_is_first(house, run, content):
    send = reserved(house, run, content)

    async def at_once():
        client = house.client()
        asked = [client.asks("PUT", send["url"], content=content, checked=False) for _ in range(8)]
        return sorted(answer.status_code for answer in await asyncio.gather(*asked))

    assert asyncio.run(at_once()) == [201] + 7 * [409]


def test_what_was_not_announced_is_refused_and_leaves_no_trace(house, run, content, tmp_path):
    send = reserved(house, run, content)

    async def pieces(data):
        for start in range(0, len(data), 50_000):
            yield data[start : start + 50_000]

    other = bytes([content[0] ^ 1]) + content[1:]
    for wrong in (content + b"x", content[:-1], b"", other):
        assert put(house, send, wrong).status_code in (413, 422)
        assert put(house, send, pieces(wrong)).status_code in (413, 422)
    assert put(house, send, content, **{"Content-Length": str(len(content) + 1)}).status_code in (413, 422)
    assert put(house, send, content, **{"Content-Encoding": "gzip"}).status_code == 415
    assert not list((tmp_path / "files" / "partial").iterdir())
    assert put(house, send, pieces(content)).status_code == 201


def test_a_url_holds_for_one_key_one_verb_one_size_and_a_short_time(house, run, content):
    send = reserved(house, run, content)
    url = send["url"]
    other = reserved(house, run, content, name="south")["url"]
    forged = [
        url.replace("size=", "size=1"), url.replace("expires=1", "expires=2"), url.replace("/north/", "/south/"),
        url.replace("signature=", "signature=0"), url.split("?")[0], url + "&more=1", url.replace("sha256=", "sha="),
        url.split("?")[0] + "?" + other.split("?")[1], url.replace("/runs/", "/runs/%2e%2e/runs/"),
        url.replace("/v1/blobs/", "/v1/blobs//"), "/v1/blobs/..%2f..%2fetc%2fpasswd?" + url.split("?")[1],
        url.replace("expires=", "expires=x"), url.replace("size=", "size=-"), url.replace("/north/", "/nor%00th/"),
    ]  # fmt: skip
    for one in forged:
        assert put(house, send, content, url=one).status_code in (403, 404), one
    for verb in ("GET", "HEAD"):
        assert put(house, send, b"", method=verb).status_code == 403
    for verb in ("POST", "DELETE", "PATCH"):
        assert put(house, send, content, method=verb).status_code == 405
    house.clock.forward(901)
    late = put(house, send, content)
    assert late.status_code == 410 and late.json()["code"] == "expired"


def test_a_sender_that_goes_in_the_middle_leaves_no_trace(house, run, content, tmp_path):
    send = reserved(house, run, content)

    came = iter([{"type": "http.request", "body": content[:500], "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive():
        return next(came)

    async def send_(message):
        sent.append(message)

    path, _, query = send["url"].partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "PUT", "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "headers": [], "client": ("test", 1), "server": ("test", 80),
        "scheme": "http", "root_path": "",
    }  # fmt: skip
    asyncio.run(house.app(scope, receive, send_))
    assert sent[0]["status"] == 400
    assert not list((tmp_path / "files" / "partial").iterdir())
    assert put(house, send, content).status_code == 201


def test_a_disk_that_is_full_is_503_and_leaves_no_trace(house, run, content, tmp_path, monkeypatch):
    from service.blobs import files

    def full(self, piece):
        raise OSError(28, "No space left on device", str(tmp_path))

    send = reserved(house, run, content)
    monkeypatch.setattr(files.Incoming, "write", full)
    answer = put(house, send, content)
    assert answer.status_code == 503 and str(tmp_path) not in answer.text and answer.headers["retry-after"]
    assert not list((tmp_path / "files" / "partial").iterdir())


def test_a_file_is_fetched_whole_or_in_part_and_is_never_shown_as_a_page(house, content):
    key = f"runs/x/content/{hashlib.sha256(content).hexdigest()}"
    house.desk.blobs.write(key, content)
    signed = house.desk.blobs.sign_get(key, house.clock(), 900, "model.bin")
    answer = house.client().get(signed.url, checked=False)
    assert answer.content == content and answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="model.bin"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert put(house, {"url": signed.url, "headers": {}}, content).status_code == 403
    house.desk.blobs.delete(key)
    assert house.client().get(signed.url, checked=False).status_code in (404, 503)
    house.clock.forward(901)
    assert house.client().get(signed.url, checked=False).status_code == 410
