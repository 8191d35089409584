"""Every reader of foreign bytes as a function of bytes, and sound bytes to begin from.

A target returns when the reader took or refused what it was given. A refusal is one of our own errors; anything else
that is raised is a finding, and so is a value that its own writer does not turn into the same again.
"""

import gzip
import hashlib
import io
import json
import struct
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
from chaos import null
from consortium import consortium, database, spheres

from computation.checks import parse_json
from computation.coinstac import arrivals
from computation.errors import MeshNetError
from computation.federation import initial
from computation.model import architecture
from computation.model.export import Metadata, save_model
from computation.scans.making import recipe, sources
from computation.scans.making.conform import Target
from computation.scans.store.opening import open_store
from computation.settings import Settings, parse
from computation.training.learner import Learner
from computation.wire import messages, payload, signing
from computation.wire.payload import CONTRIBUTION, HEADER_BYTES, Payload
from neuroflame import contract, packet, parameters
from peers import message, slices
from peers.requests import Message
from peers.swarm import words
from service.protocol.spec import Spec

RECORDS = [
    *(messages.JoinOffer, messages.Plan, messages.RoundOffer, messages.Verdict, messages.FinishOffer),
    *(messages.Results, messages.Arrived, messages.Unmasking),
]
SITE, RUN = "local0", "run"


@dataclass(frozen=True)
class Reading:
    """A reader.

    Attributes
    ----------
    read : callable
        Takes bytes; raises what is no refusal.
    seeds : callable
        Returns sound bytes for it, at least one.
    """

    read: object
    seeds: object


@cache
def folder():
    """Return a folder that lives as long as the process."""
    folder.kept = tempfile.TemporaryDirectory(prefix="fuzz-")
    return Path(folder.kept.name)


@cache
def learner():
    settings = Settings(model="meshnet-10x5")
    return Learner(architecture.from_settings(settings), settings, 1)


@cache
def recorded():
    """Return every message of a run of three sites, and of one whose updates are masked."""
    found = []
    for changes in ({}, {"secure_aggregation": True}):
        root = folder() / f"recorded{len(changes)}"
        loop = consortium(root, sites=3, changes=changes, make_local=null.make())
        with patch("sys.stderr", io.StringIO()):
            loop.run()
        found += [reply["output"] for _, _, reply in loop.log]
    return found


def as_text(values):
    return lambda: [json.dumps(value).encode() for value in values()]


def read_json(blob):
    try:
        value = parse_json(blob)
    except ValueError:
        return
    assert parse_json(json.dumps(value, allow_nan=False)) == value


def parsed(blob):
    """Return what JSON bytes hold, for a reader of values; an empty object of what is none."""
    try:
        return parse_json(blob)
    except ValueError:
        return {}


def read_messages(blob):
    value = parsed(blob)
    for record in RECORDS:
        try:
            found = record.parse(value)
        except MeshNetError:
            continue
        again = json.loads(json.dumps(found.as_json(), allow_nan=False))
        assert record.parse(again) == found


def read_settings(blob):
    value = parsed(blob)
    refused(parse, value if isinstance(value, dict) else {})


def read_payload(blob):
    """Read as it is, and once more with a check sum that is right, so that what lies behind it is reached too."""
    one = learner()
    size = payload.length(one.manifest, one.dtype)
    whole = blob[:size].ljust(size, b"\0")
    body = hashlib.sha256(whole[:152] + whole[HEADER_BYTES:]).digest()
    for content in (whole, whole[:152] + body + bytes(8) + whole[HEADER_BYTES:]):
        wanted = {"kind": CONTRIBUTION, "round": 1, "manifest": one.manifest, "dtype": one.dtype}
        refused(payload.decode, content, **wanted, model="0" * 64, site=SITE, run=RUN)


def a_payload():
    one = learner()
    return [payload.encode(Payload(CONTRIBUTION, 1, one.manifest, one.vector(), "0" * 64, SITE, RUN))]


def read_packed(blob):
    """Read an archive as parts, packed and as what it unpacks to."""
    for number, content in enumerate((blob, gzip.compress(blob, 1))):
        place = folder() / f"packed{number}"
        place.mkdir(exist_ok=True)
        (place / "run-local0-tempOutput.tar.gz.0").write_bytes(content)
        arrivals.left_packed(place, "__cx_contribution.bin", 3)


def an_archive():
    head = b"__cx_contribution.bin".ljust(100, b"\0") + b"0000644\0" * 3 + b"00000000003\0" * 2
    head = head.ljust(156, b"\0") + b"0"
    return [gzip.compress(head.ljust(512, b"\0") + b"abc".ljust(1536, b"\0")), head.ljust(512, b"\0") + b"abc"]


def read_database(blob):
    path = folder() / "read.db"
    path.write_bytes(blob)
    refused(_read_scans, path)


def _read_scans(path):
    with open_store(path) as store:
        for scan in store.scans():
            refused(store.verify, scan)


def a_database():
    return [database(folder() / "made" / "site.db", side=8).read_bytes()]


def read_image(blob):
    """Import a scan, from a file as it is and from compressed ones."""
    how = recipe.Recipe(Target(spacing=(2.0, 2.0, 2.0), grid=(16, 16, 16)))
    packed = gzip.compress(blob, 1)
    for name, content in (("scan.nii", blob), ("scan.nii.gz", packed), ("scan.mgz", packed)):
        path = folder() / name
        path.write_bytes(content)
        row = sources.Row("person", "", "train", path, None)
        refused(recipe.make, row, "train", how, {})


def an_image():
    made = []
    for kind in (nib.Nifti1Image, nib.MGHImage):
        image = kind(spheres(12, np.random.default_rng(0), 3)[0].astype(np.int16), np.diag([2.0, 2, 2, 1]))
        made.append(image.to_bytes())
    return made


def read_model(blob):
    """Read an exported model: the length of its JSON in two bytes, the JSON, and its tensors."""
    length = int.from_bytes(blob[:2], "big")
    card = folder() / "model.json"
    card.write_bytes(blob[2 : 2 + length])
    card.with_suffix(".safetensors").write_bytes(blob[2 + length :])
    refused(initial.load, card, learner(), Settings(model="meshnet-10x5", initial_model="0" * 64))


def a_model():
    place = folder() / "exported"
    save_model(place, learner().model, Metadata(labels=Settings().classes))
    card = (place / "model.json").read_bytes()
    return [struct.pack(">H", len(card)) + card + (place / "model.safetensors").read_bytes()]


def read_neuroflame(blob):
    """Read what NeuroFLAME gives: the leader's parameters, a consortium to provision, and a packet on its way."""
    value = parsed(blob)
    refused(parameters.check, value)
    path = folder() / "provision_input.json"
    path.write_bytes(blob)
    refused(contract.read, path)
    text = blob.decode("utf-8", "replace")
    refused(packet.Packet.parse, "site a", {"iteration": 1, "kind": "call", "message": text, "files": {}})
    if isinstance(value, dict):
        refused(packet.Packet.parse, "site a", value)


def for_neuroflame():
    member = {"id": "u1", "name": "site one"}
    return [
        *({"epochs": 3, "site_id_name_map": {"u1": "site one"}}, {"iteration": 1, "kind": "error"}),
        {"users": [member], "admin_port": 8003, "fed_learn_port": 8002, "host_identifier": "localhost"},
        {"user_ids": ["u1", "u2"], "active_participants": {}, "admin_port": 8003},
    ]


def read_spec(blob):
    value = parsed(blob)
    try:
        spec = Spec.parse(value)
    except MeshNetError:
        return
    assert Spec.parse(json.loads(json.dumps(spec.as_json(), allow_nan=False))) == spec


def a_spec():
    return [{"name": "a", "settings": {"epochs": 3}, "participants": [{"subject": "s" * 8, "site": "a"}]}]


def read_peer(blob):
    """Read what a peer sends another: messages with and without values, words of a swarm, lists and slices."""
    one = learner()
    refused(message.decode, blob, one.manifest, one.dtype, SITE, RUN)
    text = blob.decode("utf-8", "replace")
    for topic in ("slices", "model", "use", text[:10]):
        refused(words.read, topic, text)
    refused(words.listed, blob)
    refused(slices.decode, blob, slices.Kind((3, 4, 4), 10, 64))


def for_peers():
    one = learner()
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(2, 3, 4, 4)).astype(np.float32)
    said = [Message("push", 1, one.vector(), 0.5, "", SITE), Message("hello", 0, None, 0.0, '{"a": 1}', SITE)]
    return [
        *(message.encode(each, one.manifest, SITE, RUN) for each in said),
        slices.encode(inputs, np.array([0, 9])),
        b'{"address":"bafkreia","accuracy":0.5,"maturity":3}',
        b'{"slices":["' + b"0" * 64 + b'"]}',
        b'["bafkreia"]',
    ]


def read_signature(blob):
    text = blob.decode("utf-8", "replace")
    assert not signing.verify(text[:64], text[64:192], blob)
    signing.statement("fuzz", parsed(blob))


def refused(read, *what, **more):
    """Read; a refusal is an answer like any other."""
    try:
        return read(*what, **more)
    except MeshNetError:
        return None


TARGETS = {
    "json": Reading(read_json, as_text(recorded)),
    "messages": Reading(read_messages, as_text(recorded)),
    "settings": Reading(read_settings, as_text(lambda: [Settings().as_json(), {"data": ["a.db"], "device": "cpu"}])),
    "payload": Reading(read_payload, a_payload),
    "packed": Reading(read_packed, an_archive),
    "database": Reading(read_database, a_database),
    "image": Reading(read_image, an_image),
    "model": Reading(read_model, a_model),
    "neuroflame": Reading(read_neuroflame, as_text(for_neuroflame)),
    "spec": Reading(read_spec, as_text(a_spec)),
    "peer": Reading(read_peer, for_peers),
    "signature": Reading(read_signature, lambda: [b"0" * 192, b'{"a": [1, 1.0, "b"]}']),
}
