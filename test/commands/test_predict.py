"""predict: raw scans in, labels in the scans' own space out; a bad scan costs only itself."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest


def table(path, separator=","):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=separator))


ORIENTATIONS = {
    "straight": np.diag([1.5, 1.2, 1.6, 1.0]),
    "flipped": np.array([[-1.5, 0, 0, 20], [0, 1.2, 0, -5], [0, 0, 1.6, 3], [0, 0, 0, 1.0]]),
    "permuted": np.array([[0, 0, 1.6, 0], [-1.5, 0, 0, 40], [0, 1.2, 0, 7], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_labels_lie_where_the_tissue_is(tools, tmp_path, orientation):
    affine = ORIENTATIONS[orientation]
    raw = tools.scan(tmp_path / "p1_T1w.nii.gz", affine=affine)
    model = tools.threshold(tmp_path / "model")
    assert tools.command("predict", model, raw, "--output", tmp_path / "out", "--no-figure") == 0
    seen = nib.load(tmp_path / "out" / "p1_T1w_dseg.nii.gz")
    _, truth, _ = tools.head(affine=affine)
    assert np.allclose(seen.affine, affine)
    assert (seen.header["sform_code"], seen.header["qform_code"]) == (1, 1)
    assert seen.get_data_dtype() == np.uint8
    assert seen.header.get_intent()[0] == "label"
    found = np.asarray(seen.dataobj)
    for value in (1, 2):
        both = np.sum((found == value) & (truth == value))
        assert 2 * both / (np.sum(found == value) + np.sum(truth == value)) > 0.85


def test_everything_that_is_written(tools, tmp_path):
    raw = tools.scan(tmp_path / "p1_T1w.nii.gz")
    model = tools.threshold(tmp_path / "model")
    before = raw.read_bytes()
    assert tools.command("predict", model / "best.json", raw, "--output", tmp_path / "out", "--no-figure") == 0
    assert raw.read_bytes() == before
    out = tmp_path / "out"
    wanted = ["p1_T1w_dseg.json", "p1_T1w_dseg.nii.gz", "p1_T1w_dseg.tsv", "volumes.csv"]
    assert sorted(path.name for path in out.iterdir()) == wanted
    assert [row["name"] for row in table(out / "p1_T1w_dseg.tsv", "\t")] == list(tools.names)
    sidecar = json.loads((out / "p1_T1w_dseg.json").read_text())
    assert sidecar["Labels"]["2"] == "grey matter"
    assert sidecar["Preprocessing"]["spacing"] == [2.0, 2.0, 2.0]
    assert str(tmp_path) not in json.dumps(sidecar)
    volumes = {row["name"]: row for row in table(out / "volumes.csv")}
    found = np.asarray(nib.load(out / "p1_T1w_dseg.nii.gz").dataobj)
    assert int(volumes["white matter"]["voxels"]) == np.sum(found == 1)
    assert float(volumes["white matter"]["ml"]) == pytest.approx(np.sum(found == 1) * 1.5 * 1.2 * 1.6 / 1000, rel=1e-4)
    # The ball's radius is 7 mm.
    assert float(volumes["white matter"]["ml"]) == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.15)


def test_the_model_sees_what_the_import_would_have_stored(tools, tmp_path):
    from computation.scans.making import images
    from computation.scans.store.opening import open_store
    from computation.settings import Settings
    from computation.training.preprocessing import parse, prepare, preprocessing_of

    for name in ("a", "b", "c"):
        tools.scan(tmp_path / f"{name}.nii.gz", bright=(0, 811, 397))
    rows = [f"{name},{name}.nii.gz,,train" for name in "abc"]
    (tmp_path / "table.csv").write_text("\n".join(["subject,image,label,split", *rows]) + "\n")
    for like in ("ras", "freesurfer"):
        words = ("--spacing", "2", "--grid", "24", "--jobs", "1", "--like", like, "--overwrite")
        assert tools.command("import", tmp_path / "table.csv", "--db", tmp_path / "site.db", *words) == 0
        with open_store(tmp_path / "site.db") as store:
            how = preprocessing_of(store, Settings())
            assert (how.like, how.spacing, how.grid, how.tile) == (like, (2.0,) * 3, (24,) * 3, Settings().patch_size)
            assert parse(how.as_json()) == how
            scan = store.scans()[0]
            wanted = store.read_image(scan, (0, 0, 0), scan.shape)
        prepared = prepare(images.load(tmp_path / "a.nii.gz"), how)
        assert np.array_equal(prepared.voxels, wanted)
        assert prepared.scan.affine == scan.affine


def test_tiles_and_flips_change_nothing_where_they_must_not(tools, tmp_path):
    raw = tools.scan(tmp_path / "a.nii.gz")
    model = tools.threshold(tmp_path / "model")
    results = []
    for number, words in enumerate(((), ("--tile", "12"), ("--flips",))):
        out = tmp_path / str(number)
        assert tools.command("predict", model, raw, "--output", out, "--no-figure", *words) == 0
        results.append(np.asarray(nib.load(out / "a_dseg.nii.gz").dataobj))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_flips_average_over_the_left_right_axis_and_swap_sides(tools, tmp_path):
    from computation.commands import model as models
    from computation.commands.segmenting import probabilities

    names = ("background", "left ball", "right ball", "rest")
    tools.threshold(tmp_path, labels=names)
    model = models.read(tmp_path)
    voxels = np.random.default_rng(0).random((10, 9, 8), np.float32)
    once, both = probabilities(model, voxels), probabilities(model, voxels, flips=True)
    # This network has no neighbours: the mirrored scan gives the same shares in the mirrored place, with sides swapped.
    assert np.allclose(both, (once + once[[0, 2, 1, 3]]) / 2, atol=1e-6)


def test_a_bad_scan_does_not_stop_the_others(tools, tmp_path, capsys):
    good, late = tools.scan(tmp_path / "good.nii.gz"), tools.scan(tmp_path / "late.nii.gz")
    (cut := tmp_path / "cut.nii.gz").write_bytes(good.read_bytes()[:300])
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)), tmp_path / "empty.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9, 4), np.int16), np.eye(4)), tmp_path / "four.nii.gz")
    model = tools.threshold(tmp_path / "model")
    bad = [cut, tmp_path / "empty.nii.gz", tmp_path / "four.nii.gz", tmp_path / "missing.nii.gz"]
    assert tools.command("predict", model, good, *bad, late, "--output", tmp_path / "out", "--no-figure") == 1
    told = " ".join(capsys.readouterr().out.split())
    for text in ("truncated or damaged", "empty or constant", "one 3-D volume", "the file is missing", "2 of 6 scans"):
        assert text in told
    assert {row["scan"] for row in table(tmp_path / "out" / "volumes.csv")} == {"good", "late"}


def test_whatever_a_reader_or_the_memory_does_costs_one_scan(tools, tmp_path, capsys, monkeypatch):
    from computation.scans.making import conform

    good, huge = tools.scan(tmp_path / "good.nii.gz"), tools.scan(tmp_path / "huge.nii", shape=(31, 33, 28))
    (tmp_path / "minc.mnc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    (tmp_path / "afni.HEAD").write_bytes(b"type = integer-attribute\n")
    oriented = conform.volumes.oriented

    def no_memory(image):
        if image.shape == (31, 33, 28):
            raise MemoryError
        return oriented(image)

    monkeypatch.setattr(conform.volumes, "oriented", no_memory)
    scans = [tmp_path / "minc.mnc", huge, tmp_path / "afni.HEAD", good]
    words = ("--output", tmp_path / "out", "--no-figure")
    assert tools.command("predict", tools.threshold(tmp_path / "model"), *scans, *words) == 1
    told = " ".join(capsys.readouterr().out.split())
    for text in ("needs a further package", "more memory than there is", "(AFNIHeaderError)", "1 of 4 scans labelled"):
        assert text in told
    assert (tmp_path / "out" / "good_dseg.nii.gz").exists()


def test_two_calls_into_one_folder_lose_nothing(tools, tmp_path, capsys):
    """The same file name under two people, one call each: the volumes of both, and the labels of both."""
    out, model = tmp_path / "out", tools.threshold(tmp_path / "model")
    small = tools.scan(tmp_path / "sub-1" / "T1w.nii.gz")
    large = tools.scan(tmp_path / "sub-2" / "T1w.nii.gz", shape=(34, 34, 34))
    words = ("--output", out, "--no-figure")
    assert tools.command("predict", model, small, *words) == 0
    first = (out / "T1w_dseg.nii.gz").read_bytes()
    assert tools.command("predict", model, large, *words) == 0
    assert "T1w is another scan's result there; this one is sub-2_T1w" in " ".join(capsys.readouterr().out.split())
    assert (out / "T1w_dseg.nii.gz").read_bytes() == first
    assert nib.load(out / "sub-2_T1w_dseg.nii.gz").shape == (34, 34, 34)
    assert [row["scan"] for row in table(out / "volumes.csv")] == ["T1w"] * 3 + ["sub-2_T1w"] * 3
    # Once more: each scan finds its own results again, and its rows are replaced.
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for scan in (large, small):
        assert tools.command("predict", model, scan, *words) == 0
    assert sorted(before) == sorted(path.name for path in out.iterdir())
    assert {name: blob for name, blob in before.items() if name != "volumes.csv"} == {
        path.name: path.read_bytes() for path in out.iterdir() if path.name != "volumes.csv"
    }
    assert sorted(row["scan"] for row in table(out / "volumes.csv")) == ["T1w"] * 3 + ["sub-2_T1w"] * 3


def test_a_persons_own_label_map_is_left_alone(tools, tmp_path):
    raw, model = tools.scan(tmp_path / "sub-1" / "T1w.nii.gz"), tools.threshold(tmp_path / "model")
    (drawn := tmp_path / "sub-1" / "T1w_dseg.nii.gz").write_bytes(b"a month of work")
    assert tools.command("predict", model, raw, "--output", tmp_path / "sub-1", "--no-figure") == 0
    assert drawn.read_bytes() == b"a month of work"
    assert (tmp_path / "sub-1" / "sub-1_T1w_dseg.nii.gz").exists()


def test_nothing_is_written_where_nothing_was_labelled(tools, tmp_path, capsys):
    model = tools.threshold(tmp_path / "model")
    assert tools.command("predict", model, tmp_path / "typo.nii.gz", "--output", tmp_path / "out") == 1
    assert "0 of 1 scans labelled\n" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_table_of_somebody_else_is_not_replaced(tools, tmp_path, capsys):
    raw, model = tools.scan(tmp_path / "a.nii.gz"), tools.threshold(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (theirs := tmp_path / "out" / "volumes.csv").write_text("person;ml\n")
    assert tools.command("predict", model, raw, "--output", tmp_path / "out") == 2
    assert "other columns" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [
        "volumes.csv"
    ] and theirs.read_text() == "person;ml\n"


def test_a_full_disk_leaves_no_half_result(tools, tmp_path, capsys, monkeypatch):
    from computation.commands import outputs
    from computation.errors import MeshNetError

    def full(path, blob):
        if path.suffix == ".gz":
            raise MeshNetError("an output file cannot be written")
        path.write_bytes(blob)

    raw, model = tools.scan(tmp_path / "a.nii.gz"), tools.threshold(tmp_path / "model")
    monkeypatch.setattr(outputs, "write", full)
    assert tools.command("predict", model, raw, "--output", tmp_path / "out", "--no-figure") == 1
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_name_that_is_not_utf_8_and_one_that_is_a_formula(tools, tmp_path, encoding):
    """A byte of Latin-1, an escape sequence, a formula, brackets: all are labelled, the terminal is unharmed."""
    import os
    import subprocess
    import sys

    names = [os.fsdecode(b"Jos\xe9"), "a\x1b[2Jb", "=cmd|' C'!A0", "[red]x"]
    scans = [tools.scan(tmp_path / f"{name}.nii") for name in names]
    model = tools.threshold(tmp_path / "model", labels=("background", "=1+1", "grey"))
    words = [sys.executable, "-m", "computation.cli", "predict", model, *scans, "--output", tmp_path / "out"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "COLUMNS": "200"}
    ended = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"\x1b" not in ended.stdout and rb"a\x1b[2Jb labelled" in ended.stdout and b"[red]x labelled" in ended.stdout
    wanted = [r"Jos\xe9", r"a\x1b[2Jb", "'=cmd|' C'!A0", "[red]x"]
    assert list(dict.fromkeys(row["scan"] for row in table(tmp_path / "out" / "volumes.csv"))) == wanted
    assert table(tmp_path / "out" / "[red]x_dseg.tsv", "\t")[1] == {"index": "1", "name": "'=1+1"}
    assert all((tmp_path / "out" / f"{name}_dseg.nii.gz").exists() for name in names)


def test_nan_outside_the_head_is_told_and_changes_nothing(tools, tmp_path, capsys):
    image, _, affine = tools.head()
    for name, hole in (("zero", 0.0), ("masked", np.nan)):
        nib.save(nib.Nifti1Image(np.where(image == 0, np.float32(hole), image), affine), tmp_path / f"{name}.nii.gz")
    model = tools.threshold(tmp_path / "model")
    scans = [tmp_path / "zero.nii.gz", tmp_path / "masked.nii.gz"]
    assert tools.command("predict", model, *scans, "--output", tmp_path / "out", "--no-figure") == 0
    assert f"{np.sum(image == 0)} voxels were NaN or infinite" in " ".join(capsys.readouterr().out.split())
    one, other = (nib.load(tmp_path / "out" / f"{name}_dseg.nii.gz").dataobj for name in ("zero", "masked"))
    assert np.asarray(one).any() and (np.asarray(one) == np.asarray(other)).all()


def test_a_cut_head_is_told(tools, tmp_path, capsys):
    raw = tools.scan(tmp_path / "a.nii.gz")
    model = tools.threshold(tmp_path / "model", {**tools.how, "grid": [8, 8, 8]})
    assert tools.command("predict", model, raw, "--output", tmp_path / "out", "--no-figure") == 0
    assert "of the head lies outside" in " ".join(capsys.readouterr().out.split())


def test_negative_values_are_told_as_the_import_tells_them(tools, tmp_path, capsys):
    image, _, affine = tools.head()
    image[0, 0, 0] = -3
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "a.nii.gz")
    model = tools.threshold(tmp_path / "model")
    assert tools.command("predict", model, tmp_path / "a.nii.gz", "--output", tmp_path / "out", "--no-figure") == 0
    said = "the image has negative values; its zeros are still taken as background"
    assert f"a: {said}" in " ".join(capsys.readouterr().out.split())
    assert said in json.loads((tmp_path / "out" / "a_dseg.json").read_text())["Notes"]


@pytest.mark.parametrize(
    "change", [{"stripped": 1}, {"spacing": [0, 1, 1]}, {"tile": [64, 64]}, {"like": "x"}, {"grid": [24, 24, 24.5]}]
)
def test_malformed_preprocessing_is_refused(tools, tmp_path, capsys, change):
    model = tools.threshold(tmp_path / "model", {**tools.how, **change})
    assert tools.command("predict", model, tmp_path / "a.nii.gz") == 2
    assert "preprocessing" in capsys.readouterr().err


def test_models_of_earlier_versions_say_their_spacing_as_text(tools, tmp_path):
    from computation.training.preprocessing import parse

    assert parse({"normalisation": "z-score", "spacing_mm": "3 x 2.5 x 3"}).spacing == (3.0, 2.5, 3.0)
    assert parse({"spacing_mm": "several"}).spacing is None


def test_no_model_and_no_writable_folder(tools, tmp_path, capsys):
    raw = tools.scan(tmp_path / "a.nii.gz")
    assert tools.command("predict", tmp_path, raw) == 2
    assert "no exported model" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    model = tools.threshold(tmp_path / "model")
    assert tools.command("predict", model, raw, "--output", tmp_path / "file", "--no-figure") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_figure_is_drawn_or_said_to_be_left_out(tools, tmp_path, capsys, monkeypatch):
    import sys

    raw = tools.scan(tmp_path / "a.nii.gz")
    model = tools.threshold(tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        assert tools.command("predict", model, raw, "--output", tmp_path / "out") == 0
        assert "`figures` extra" in " ".join(capsys.readouterr().out.split())
    pytest.importorskip("matplotlib")
    for how in (tools.how, {**tools.how, "like": "freesurfer"}):
        model = tools.threshold(tmp_path / "model", how)
        assert tools.command("predict", model, raw, "--output", tmp_path / "out") == 0
        assert (tmp_path / "out" / "a_dseg.png").read_bytes().startswith(b"\x89PNG")


def test_dollars_in_names_are_no_formulas(tools, tmp_path):
    pytest.importorskip("matplotlib")
    raw = tools.scan(tmp_path / "a$b_$c{.nii.gz")
    model = tools.threshold(tmp_path / "model", labels=("background", "$x_$", "\\$y^$"))
    assert tools.command("predict", model, raw, "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / "a$b_$c{_dseg.png").exists()


def test_every_class_is_outlined_in_a_colour_that_is_not_black():
    pytest.importorskip("matplotlib")
    import io

    from matplotlib.image import imread

    from computation.commands.figure import mosaic

    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:15, 5:15] = 8
    page = mosaic(np.zeros(labels.shape, np.float32), labels, [""] * 9, "")
    pixels = imread(io.BytesIO(page))[..., :3]
    # The image and the page are black, so what is bright above the legend is the outline.
    assert pixels[: int(0.9 * len(pixels))].max() > 0.5


def heads(tmp_path):
    """Write a brain of 65 mm alone (`stripped`), in a head (`raw`), and in a head in noise (`noisy`)."""
    away = 4 * np.sqrt(sum((axis - 30) ** 2 for axis in np.indices((60, 60, 60))))
    brain = np.select([away < 22, away < 50, away < 65], [10, 800, 400], 0)
    raw = np.where((away >= 65) & (away < 95), 780, brain)
    noise = np.random.default_rng(0).rayleigh(12, raw.shape)
    for name, image in (("stripped", brain), ("raw", raw), ("noisy", np.where(raw > 0, raw, noise))):
        nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([4.0, 4, 4, 1])), tmp_path / f"{name}.nii.gz")


def test_a_head_that_is_not_of_the_kind_that_was_learnt_is_told(tools, tmp_path, capsys):
    heads(tmp_path)
    how = {**tools.how, "spacing": [4.0] * 3, "grid": [60] * 3}
    scans = [tmp_path / f"{name}.nii.gz" for name in ("stripped", "raw", "noisy")]
    skull, brain = "the model learnt from skull-stripped", "the model learnt from scans that are not skull-stripped"
    for stripped, wanted in ((True, [(), skull, skull]), (False, [brain, (), ()]), (None, [(), (), ()])):
        model, out = tools.threshold(tmp_path / "model", {**how, "stripped": stripped}), tmp_path / str(stripped)
        assert tools.command("predict", model, *scans, "--output", out, "--no-figure") == 0
        told = " ".join(capsys.readouterr().out.split())
        for path, expected in zip(scans, wanted, strict=True):
            name = path.name.split(".")[0]
            notes = json.loads((out / f"{name}_dseg.json").read_text())["Notes"]
            kinds = [note for note in notes if note.startswith("the model learnt")]
            assert [note[: len(expected)] for note in kinds] == ([expected] if expected else [])
            assert (f"{name}: the model learnt" in told) == bool(expected)
    assert "SynthStrip, HD-BET, BET" not in told
    sidecar = json.loads((tmp_path / "True" / "raw_dseg.json").read_text())
    assert any("SynthStrip, HD-BET, BET" in note for note in sidecar["Notes"])
    # A brain of 1.15 litres in 3.6 litres of head, all of which this network takes for tissue.
    assert any("litres of grey and white matter together" in note for note in sidecar["Notes"])
    sidecar = json.loads((tmp_path / "True" / "stripped_dseg.json").read_text())
    assert not any("litres" in note for note in sidecar["Notes"])


def test_predict_and_validation_label_the_same_and_no_air(tools, tmp_path):
    """The network calls air white matter, as one may that has never seen any."""
    import torch

    from computation.commands.model import read
    from computation.commands.segmenting import segment
    from computation.scans.making.ingest import import_table
    from computation.scans.store.opening import open_store
    from computation.training import head, inference

    heads(tmp_path)
    names = ("stripped", "raw", "noisy")
    rows = [f"{name},{name}.nii.gz," for name in names]
    (tmp_path / "t.csv").write_text("\n".join(["subject,image,label", *rows]))
    import_table(tmp_path / "t.csv", tmp_path / "site.db", spacing=4.0, grid=90)
    model = read(tools.threshold(tmp_path / "model", {**tools.how, "spacing": [4.0] * 3, "grid": [90] * 3}))
    with torch.no_grad():
        model.network.head.weight[0] = -20
        model.network.head.bias[:3] = torch.tensor([-1.0, 0.0, -100.0])
    with open_store(tmp_path / "site.db") as store:
        for scan in store.scans():
            labels = inference.predict(model.network, store, scan, tile=(20, 20, 20))
            found = segment(model, tmp_path / f"{scan.subject}.nii.gz", tile=(20, 20, 20))
            assert np.array_equal(labels, found.labels)
            box = head.box_of(store.read_image(scan, (0, 0, 0), scan.shape))
            outside = np.ones(labels.shape, bool)
            outside[box] = False
            assert labels[box].all()
            assert not labels[outside].any()
            assert outside.mean() > 0.5
            # Back in its own space nothing beyond the box is labelled either; voxels are copied.
            assert np.count_nonzero(np.asarray(found.native.dataobj)) <= np.count_nonzero(labels)
