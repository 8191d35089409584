"""The sixteen faults of the earlier prototype (field.md, section F), each with the test that it would fail."""

import ast
import json
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from consortium import consortium, database

from computation.federation import shares
from computation.model import architecture, network, vector
from computation.scans.drawing.sampling import PatchSampler
from computation.scans.store.opening import open_store
from computation.settings import parse
from computation.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
SOURCES = [
    path for room in ("computation", "simulator", "peers", "sqlite_fixtures") for path in (ROOT / room).rglob("*.py")
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    loop = consortium(tmp_path_factory.mktemp("peer"), changes={"norm": "batch"}, scans=[(3, 1, 1), (1, 1, 1)])
    loop.final = loop.run()
    return loop


def test_fault_01_all_sites_start_from_one_initial_model(run):
    plans = [reply["output"] for client, iteration, reply in run.log if client == "remote" and iteration == 1]
    first = [reply["output"] for client, iteration, reply in run.log if client != "remote" and iteration == 2]
    assert {offer["model"] for offer in first} == {plans[0]["model"]}


def test_fault_02_batch_norm_statistics_are_the_same_everywhere(run):
    states = [run.handlers[site]._run.trainer.model.state_dict() for site in ("local0", "local1")]
    running = [name for name in states[0] if "running" in name]
    assert running
    for name in running:
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[0][name], torch.zeros_like(states[0][name]))


def test_fault_03_five_channels_are_five():
    model = network.build(architecture.named("meshnet-10x5", classes=3), 0)
    first = next(iter(vector.parameters(model).entries))
    assert first[1] == (5, 1, 3, 3, 3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 5_688


def test_fault_04_sites_weigh_as_much_as_they_bring(run):
    centre = run.handlers["remote"]._run
    assert [centre.offers[site].scans["train"] for site in ("local0", "local1")] == [3, 1]
    first, second = (shares.weight(centre.settings, centre.offers[site], 1) for site in ("local0", "local1"))
    assert first == 3 * second


def test_fault_05_the_largest_site_finishes_its_epochs(run):
    assert run.final["rounds"] == 2 * 3 / 2  # two of its three batches a round


def test_fault_06_the_last_averaged_gradient_is_applied(run):
    lines = (run.folder("output", "local0") / "journal.jsonl").read_text().splitlines()
    digests = [entry["digest"] for entry in map(json.loads, lines) if entry["event"] == "round"]
    assert run.final["model_digest"] == digests[-1] and digests[-1] != digests[-2]


def test_fault_07_an_epoch_visits_every_scan_once_and_reads_only_that(tmp_path, monkeypatch):
    store = open_store(database(tmp_path / "site.db", scans=(5, 0, 0)))
    reads = []
    read = store.read_image
    monkeypatch.setattr(store, "read_image", lambda scan, *box: (reads.append(scan.key), read(scan, *box))[1])
    sampler = PatchSampler(store, "train", patch_size=(8, 8, 8), batch_size=1, seed=1, site="local0")
    seen = [sampler.batch(step).scans for step in range(sampler.steps_per_epoch)]
    assert sorted(seen) == [(1,), (2,), (3,), (4,), (5,)]
    assert len(reads) == 5


def test_fault_08_the_split_is_stored_and_a_restart_leaks_nothing(tmp_path):
    path = database(tmp_path / "site.db", scans=(4, 2, 2))
    splits = [{part: open_store(path).scans(part) for part in ("train", "valid", "test")} for _ in range(2)]
    assert splits[0] == splits[1]
    people = [{scan.subject for scan in part} for part in splits[0].values()]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])


def test_fault_09_predictions_keep_the_scans_affine_and_labels(run):
    written = sorted((run.folder("output", "local0") / "predictions").glob("*.nii.gz"))
    scan = open_store(run.folder("input", "local0") / "site.db").scans("test")[0]
    image = nibabel.load(written[0])
    np.testing.assert_allclose(image.affine, np.array(scan.affine))
    assert image.shape == scan.shape != (256, 256, 256)
    assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1, 2}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fault_10_a_gpu_site_computes_on_its_gpu(tmp_path):
    settings, _ = parse({"patch_size": 8})
    store = open_store(database(tmp_path / "site.db"))
    trainer = Trainer(architecture.from_settings(settings), settings, 1, store=store, site="a", device="cuda")
    assert next(trainer.model.parameters()).is_cuda
    assert np.isfinite(trainer.gradient(1).vector).all()


def test_fault_10_the_device_is_chosen_and_said(run):
    joins = [reply["output"] for client, iteration, reply in run.log if client == "local0" and iteration == 1]
    assert joins[0]["device"] in ("cpu", "cuda")


def test_fault_11_wandb_is_optional_and_no_key_is_shipped(run):
    text = (ROOT / "compspec.json").read_text() + (ROOT / "inputspec.json").read_text()
    assert "api_key" not in text
    assert "default" not in json.loads(text[: text.index("\n[")])["computation"]["input"]["wandb"]
    code = "import sys, computation.local, computation.remote; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_fault_12_no_code_is_imported_from_the_data_folder(tmp_path):
    loop = consortium(tmp_path)
    for name in ("meshnet.py", "loader.py", "dice.py", "sitecustomize.py"):
        (loop.folder("input", "local0") / name).write_text("raise SystemExit('ran foreign code')")
    loop.run()
    dangerous = {"exec", "eval", "__import__"}
    for path in SOURCES:
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not names & dangerous, path


def test_fault_13_a_restarted_container_goes_on(tmp_path):
    def restart(loop, client, iteration):
        if iteration == 3:
            loop.restart(client)

    assert consortium(tmp_path / "a").run(restart) == consortium(tmp_path / "b").run()


def test_fault_14_tensors_travel_as_files_and_messages_stay_small(run):
    sizes = [len(json.dumps(reply["output"])) for client, _, reply in run.log if client != "remote"]
    assert max(sizes) < 4_000
    contribution = run.folder("input", "remote") / "local0" / "__cx_contribution.bin"
    values = run.handlers["remote"]._run.learner.manifest.size
    assert contribution.stat().st_size <= 1.02 * 4 * values


def test_fault_15_a_round_is_written_once(run):
    lines = (run.folder("output", "local0") / "run.log").read_text().splitlines()
    rounds = [line.split("round ")[1].split("/")[0] for line in lines if "round " in line]
    assert rounds == [str(number) for number in range(1, run.final["rounds"] + 1)]


def test_fault_16_the_page_is_self_contained_and_no_blob_is_committed(run):
    page = (run.folder("output", "local0") / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert not [name for name in tracked if name.endswith((".whl", ".db", ".nii", ".nii.gz", ".pt", ".pth"))]


def test_the_peers_own_table_is_read_as_it_is(tmp_path):
    """Labels 0, 0.5 and 1 mean classes 0, 1 and 2, whatever the writer scaled them by."""
    path = tmp_path / "peer.db"
    label = np.zeros((16, 16, 16), np.float32)
    label[4:12], label[6:10] = 0.5, 1
    image = 100 * label + np.random.default_rng(0).random(label.shape, np.float32)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mindboggle101 (Image BLOB, GWlabels BLOB)")
        for _ in range(10):
            blobs = [zlib.compress(volume.astype("<f4").tobytes()) for volume in (image, label)]
            connection.execute("INSERT INTO mindboggle101 VALUES (?, ?)", blobs)
    store = open_store(path)
    _, labels = store.read(store.scans("train")[0], (0, 0, 0), (16, 16, 16))
    np.testing.assert_array_equal(labels, (2 * label).astype(int))
