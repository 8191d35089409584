"""What a service says is a record or one named error, whatever it says."""

import base64
import copy
import json

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from hypothesis import given
from hypothesis import strategies as st

from computation.errors import MeshNetError
from service.client.replies import Invitation, Linked, Moment, Reserved, Told
from service.protocol import Spec, canonical, digest_of

ID = "01a2223f-5a27-7000-8a01-d57b22bb5c49"
SPEC = Spec.parse({"name": "tested", "settings": {}, "participants": [{"subject": "s", "site": "north"}]})
RUN = {
    "id": ID,
    "state": "inviting",
    "spec": SPEC.as_json(),
    "digest": SPEC.digest,
    "you": {"site": "north", "state": "invited"},
    "something": "newer",
}
STANDING = {
    "run": {"id": ID, "state": "running", "reason": "", "detail": ""},
    "step": {"number": 3, "state": "open", "base": "ab" * 32},
    "you": {"site": "north", "state": "accepted", "expected": True},
}
FILE = {
    "name": "__cx_model.bin",
    "size": 3,
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "fetch": {"url": "/v1/blobs/x", "headers": {}},
    "content": base64.b64encode(b"abc").decode(),
}
MESSAGE = {"round": 1, "loss": 0.5}
RESULT = {
    "message": MESSAGE,
    "files": [FILE],
    "last": False,
    "digest": digest_of([canonical(MESSAGE), [[FILE["name"], 3, FILE["sha256"]]], False]),
}
RESERVED = {"id": ID, "send": {"url": "/v1/blobs/x", "headers": {"If-None-Match": "*"}}}
ALL = [(Invitation, RUN), (Moment, STANDING), (Linked, FILE), (Told, RESULT), (Reserved, RESERVED)]


@pytest.mark.parametrize(("kind", "raw"), ALL, ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_sound_is_read(kind, raw):
    assert kind.parse(json.loads(json.dumps(raw)))


def places(value, at=()):
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inside:
        yield from places(below, (*at, name))


WRONG = [None, True, -1, 2**70, 1.5, "", "x" * 10_000, "a\r\nX: 1", "../..", [], {}, [None], {"a": {}}, "\x1b[2J"]


@pytest.mark.parametrize(("kind", "raw"), ALL, ids=lambda one: getattr(one, "__name__", ""))
@given(data=st.data())
def test_whatever_is_changed_ends_in_a_record_or_one_error(kind, raw, data):
    raw = copy.deepcopy(raw)
    place = data.draw(st.sampled_from([one for one in places(raw) if one]))
    below = raw
    for name in place[:-1]:
        below = below[name]
    if data.draw(st.booleans()):
        below[place[-1]] = data.draw(st.sampled_from(WRONG))
    else:
        del below[place[-1]]
    try:
        kind.parse(raw)
    except MeshNetError as error:
        assert len(error.public) < 700 and error.public.isprintable()


@pytest.mark.parametrize("raw", [None, [], "x", 7, {}])
def test_what_is_no_object_is_refused(raw):
    for kind, _ in ALL:
        with pytest.raises(MeshNetError):
            kind.parse(raw)


def test_a_spec_of_another_digest_is_not_shown_for_consent():
    other = {**RUN["spec"], "name": "another"}
    with pytest.raises(MeshNetError, match="digest is not that of its spec"):
        Invitation.parse({**RUN, "spec": other})


@pytest.mark.parametrize(
    "change",
    [{"message": {"round": 2}}, {"last": True}, {"files": []}, {"files": [{**FILE, "size": 4}]}, {"digest": "ab" * 32}],
    ids=str,
)
def test_a_result_of_another_digest_is_refused(change):
    with pytest.raises(MeshNetError, match="not what its digest says"):
        Told.parse({**RESULT, **change})


def test_a_file_too_many_or_too_large_is_refused():
    with pytest.raises(MeshNetError, match="a few files"):
        Told.parse({**RESULT, "files": [FILE] * 100})
    with pytest.raises(MeshNetError, match="size"):
        Linked.parse({**FILE, "size": 2**40})
    with pytest.raises(MeshNetError, match="base64"):
        Linked.parse({**FILE, "content": "not base64!"})
