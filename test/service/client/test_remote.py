"""A site's answer as a request's body: the message and, where they are small, the files."""

import base64
import json
import random

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from scripted import scripted

from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.credentials import Credentials
from service.client.journal import Pending
from service.client.link import Link
from service.client.remote import RemoteRun

RUN = "0" * 26
MESSAGE = {"phase": "train", "told": 'a "quoted" \u00e9\U0001f9e0 {}', "loss": 0.1, "nested": {"inline": {}}}
FILES = {"__cx_contribution.bin": bytes(range(256)) * 9, "__cx_initial.bin": b""}


@pytest.mark.parametrize("files", [FILES, {}])
def test_an_answer_with_small_files_is_one_json_object(files):
    with scripted() as server:
        path = f"/v1/runs/{RUN}/rounds/3/updates"
        server.on(path, (201, {}, {}))
        link = Link(
            Address.parse(server.url),
            Bearer(Address.parse(server.url), lambda: Credentials(token="mnc_planted")),
            lambda: Backoff(random.Random(0), 0.5, first=0.01),
        )
        assert RemoteRun(link, RUN).commit(Pending(3, "ab" * 32, MESSAGE, files), wait=5) is None
        link.close()
    [(method, asked, headers, body)] = server.seen
    assert (method, asked, headers["Content-Type"]) == (
        "POST",
        f"{path}?inline={2**20}&wait=5",
        "application/json",
    )
    sent = json.loads(body)
    assert sent["message"] == MESSAGE and sent["base"] == "ab" * 32 and set(sent) == {"message", "base", "inline"}
    assert {name: base64.b64decode(text, validate=True) for name, text in sent["inline"].items()} == files
