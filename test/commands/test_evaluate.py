"""evaluate: surface distances and volumes against shapes whose answers are known, then whole databases and files."""

import csv
import shutil

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from computation.commands.distances import compare, hausdorff
from computation.training.metrics import Counts


def cube(low, high, shape=(40, 40, 40)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def ball(radius, spacing, sides):
    places = np.stack(np.indices(sides), -1) * spacing
    return np.linalg.norm(places - (np.array(sides) - 1) / 2 * spacing, axis=-1) <= radius


def test_a_cube_moved_by_three_voxels_of_two_millimetres():
    one, other = cube((10, 10, 10), (20, 20, 20)), cube((13, 10, 10), (23, 20, 20))
    assert hausdorff(one, other, (2.0, 1.0, 1.0), 100) == 6.0
    # More than 5 % of a cube's surface is the face that moved.
    assert hausdorff(one, other, (2.0, 1.0, 1.0)) == 6.0
    assert hausdorff(one, one, (2.0, 1.0, 1.0)) == 0.0


def test_balls_of_different_radius_are_apart_by_the_difference():
    spacing = (1.0, 0.8, 1.25)
    one, other = (ball(radius, np.array(spacing), (60, 70, 50)) for radius in (12.0, 17.0))
    voxel = float(np.linalg.norm(spacing))
    assert hausdorff(one, other, spacing) == pytest.approx(5.0, abs=voxel)
    assert hausdorff(one, other, spacing) == hausdorff(other, one, spacing)


def test_percentile_forgives_one_stray_voxel():
    one, other = cube((10, 10, 10), (20, 20, 20)), cube((10, 10, 10), (20, 20, 20))
    other[35, 10, 10] = True
    assert hausdorff(one, other, (1.0, 1.0, 1.0), 100) == 16.0
    assert hausdorff(one, other, (1.0, 1.0, 1.0)) == 0.0


def test_masks_that_fill_the_volume_or_are_empty():
    full, empty = np.ones((6, 6, 6), bool), np.zeros((6, 6, 6), bool)
    assert hausdorff(full, full, (1.0, 1.0, 1.0)) == 0.0
    assert hausdorff(full, empty, (1.0, 1.0, 1.0)) is None
    assert hausdorff(empty, empty, (1.0, 1.0, 1.0)) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95), st.tuples(*[st.sampled_from([0.5, 1.0, 1.7])] * 3))
def test_against_all_pairs_of_surface_voxels(seed, share, spacing):
    generator = np.random.default_rng(seed)
    masks = [generator.random((5, 6, 4)) < share for _ in range(2)]
    if not all(mask.any() for mask in masks):
        assert hausdorff(*masks, spacing) is None
        return
    surfaces = []
    for mask in masks:
        padded = np.pad(mask, 1)
        inner = np.ones_like(mask)
        for axis in range(3):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        surfaces.append(np.argwhere(mask & ~inner) * spacing)
    apart = cdist(*surfaces)
    wanted = max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))
    assert hausdorff(*masks, spacing) == pytest.approx(wanted)


def test_volumes_and_differences_are_in_millilitres():
    truth = cube((0, 0, 0), (10, 10, 10)).astype(np.uint8)
    guess = cube((0, 0, 0), (10, 10, 15)).astype(np.uint8)
    background, tissue = compare(guess, truth, (2.0, 2.0, 2.0), Counts.of(guess, truth, 2))
    assert (tissue.truth_ml, tissue.predicted_ml) == (8.0, 12.0)
    assert (tissue.difference_ml, tissue.difference_percent) == (4.0, 50.0)
    assert tissue.dice == 0.8
    assert background.hausdorff95 is None


def test_a_missing_class_has_no_score_but_volumes():
    truth, guess = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.uint8)
    guess[2, 2, 2] = 1
    _, only, neither = compare(guess, truth, (1.0, 1.0, 1.0), Counts.of(guess, truth, 3))
    assert (only.dice, only.hausdorff95, only.difference_percent) == (0.0, None, None)
    assert (neither.dice, neither.hausdorff95) == (None, None)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def database(tools, folder, parts=("test", "test", "train"), like="ras"):
    lines = ["subject,image,label,split"]
    for number, part in enumerate(parts):
        tools.scan(folder / f"{number}.nii.gz")
        _, label, affine = tools.head()
        nib.save(nib.Nifti1Image(label, affine), folder / f"{number}-label.nii.gz")
        lines.append(f"person-{number},{number}.nii.gz,{number}-label.nii.gz,{part}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    words = ("--spacing", "2", "--grid", "24", "--jobs", "1", "--like", like)
    assert tools.command("import", folder / "table.csv", "--db", folder / "site.db", *words) == 0
    return folder / "site.db"


def test_a_model_on_a_database(tools, tmp_path, capsys):
    db, model = database(tools, tmp_path), tools.threshold(tmp_path / "model")
    assert tools.command("evaluate", model, db, "--csv", tmp_path / "out" / "scores.csv") == 0
    found = rows(tmp_path / "out" / "scores.csv")
    assert [(row["scan"], row["name"]) for row in found] == [(s, n) for s in "12" for n in tools.names]
    assert all(float(row["dice"]) > 0.8 for row in found)
    assert all(float(row["hausdorff95_mm"]) <= 4 for row in found if row["name"] != "background")
    assert "person" not in (tmp_path / "out" / "scores.csv").read_text()
    told = capsys.readouterr().out
    assert "foreground mean" in told
    assert "with background" in told
    assert tools.command("evaluate", model, db, "--split", "all", "--csv", tmp_path / "all.csv", "--flips") == 0
    assert len(rows(tmp_path / "all.csv")) == 9


def test_a_damaged_scan_is_told_and_the_others_count(tools, tmp_path, capsys):
    import sqlite3

    db, model = database(tools, tmp_path), tools.threshold(tmp_path / "model")
    connection = sqlite3.connect(db)
    connection.execute("UPDATE blocks SET crc32 = crc32 + 1 WHERE block = (SELECT MIN(block) FROM blocks)")
    connection.commit()
    connection.close()
    assert tools.command("evaluate", model, db, "--csv", tmp_path / "scores.csv") == 1
    assert len(rows(tmp_path / "scores.csv")) == 3
    assert "not evaluated" in capsys.readouterr().out


def test_a_scan_for_which_memory_is_short_costs_only_itself(tools, tmp_path, capsys, monkeypatch):
    from computation.commands import evaluate
    from computation.errors import DeviceError

    db, model = database(tools, tmp_path, ("test",) * 3), tools.threshold(tmp_path / "model")
    whole, raised = evaluate.compare, [MemoryError(), DeviceError("the device ran out of memory")]
    monkeypatch.setattr(evaluate, "compare", lambda *given: whole(*given) if not raised else raising(raised.pop(0)))
    assert tools.command("evaluate", model, db, "--csv", tmp_path / "scores.csv") == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "scan 1: not evaluated: it needs more memory" in told and "scan 2: not evaluated: the device ran out" in told
    assert {row["scan"] for row in rows(tmp_path / "scores.csv")} == {"3"}


def raising(error):
    raise error


def test_a_database_that_does_not_fit_the_model(tools, tmp_path, capsys):
    db = database(tools, tmp_path, ("train",))
    other = tools.threshold(tmp_path / "other", labels=("background", "a", "b"))
    assert tools.command("evaluate", other, db) == 2
    assert "the model's classes are" in capsys.readouterr().err
    model = tools.threshold(tmp_path / "model", {**tools.how, "normalisation": "z-score", "spacing": [1, 1, 1]})
    assert tools.command("evaluate", model, db) == 2
    assert "no labelled scan in split 'test'" in capsys.readouterr().err
    assert tools.command("evaluate", model, db, "--split", "train") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "normalised by quantile; the model learnt from z-score" in told
    assert "the model learnt from (1.0, 1.0, 1.0)" in told


def label_map(path, voxels, affine=None):
    nib.save(nib.Nifti1Image(voxels.astype(np.uint8), np.diag([2.0, 2, 2, 1]) if affine is None else affine), path)
    return path


def test_two_files_whose_axes_run_differently(tools, tmp_path):
    truth, guess = cube((5, 5, 5), (15, 15, 15)), cube((5, 5, 5), (15, 15, 20))
    label_map(tmp_path / "truth.nii.gz", truth)
    image = nib.Nifti1Image(guess.astype(np.uint8), np.diag([2.0, 2, 2, 1]))
    nib.save(image.as_reoriented(np.array([[1, -1], [0, 1], [2, 1]])), tmp_path / "guess_dseg.nii.gz")
    (tmp_path / "guess_dseg.tsv").write_text("index\tname\n0\tbackground\n1\tcube\n")
    words = (tmp_path / "guess_dseg.nii.gz", tmp_path / "truth.nii.gz", "--csv", tmp_path / "scores.csv")
    assert tools.command("evaluate", *words) == 0
    (_, found) = rows(tmp_path / "scores.csv")
    assert (found["name"], float(found["dice"]), float(found["hausdorff95_mm"])) == ("cube", 0.8, 10.0)
    assert (float(found["truth_ml"]), float(found["predicted_ml"])) == (8.0, 12.0)


def test_true_values_of_another_protocol(tools, tmp_path):
    truth = cube((5, 5, 5), (15, 15, 15))
    label_map(tmp_path / "guess.nii.gz", truth)
    label_map(tmp_path / "truth.nii.gz", truth * 3)
    words = (tmp_path / "guess.nii.gz", tmp_path / "truth.nii.gz", "--csv", tmp_path / "scores.csv")
    assert tools.command("evaluate", *words, "--labels", "gwm-white1-grey2:oasis-tissue") == 0
    assert [row["dice"] for row in rows(tmp_path / "scores.csv")] == ["1", "1", ""]


def test_maps_that_scaling_left_a_hair_off_whole_are_compared(tools, tmp_path):
    truth = cube((5, 5, 5), (15, 15, 15))
    one, other = label_map(tmp_path / "a.nii.gz", truth), tmp_path / "b.nii.gz"
    nib.save(nib.Nifti1Image(truth * np.float32(1.000015), np.diag([2.0, 2, 2, 1])), other)
    assert tools.command("evaluate", one, other, "--csv", tmp_path / "scores.csv") == 0
    assert {row["dice"] for row in rows(tmp_path / "scores.csv")} == {"1"}


@pytest.mark.parametrize("fault", ["grid", "place", "image", "missing", "damaged", "reader"])
def test_files_that_cannot_be_compared(tools, tmp_path, capsys, fault):
    truth = cube((5, 5, 5), (15, 15, 15))
    one, other = label_map(tmp_path / "a.nii.gz", truth), tmp_path / "b.nii.gz"
    if fault == "grid":
        label_map(other, truth[:30])
    elif fault == "place":
        label_map(other, truth, np.array([[2.0, 0, 0, 9], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]))
    elif fault == "image":
        nib.save(nib.Nifti1Image(truth * np.float32(0.5), np.diag([2.0, 2, 2, 1])), other)
    elif fault == "damaged":
        other.write_bytes(one.read_bytes()[:200])
    elif fault == "reader":
        (other := tmp_path / "b.HEAD").write_bytes(b"type = integer-attribute\n")
    assert tools.command("evaluate", one, other) == 2
    told = capsys.readouterr().err
    wanted = {"grid": "different grids", "place": "different grids", "image": "not whole numbers"}
    assert {**wanted, "reader": "(AFNIHeaderError)"}.get(fault, "") in told


def test_predict_and_evaluate_agree(tools, tmp_path):
    raw, model = tools.scan(tmp_path / "p.nii.gz"), tools.threshold(tmp_path / "model")
    _, label, affine = tools.head()
    label_map(tmp_path / "truth.nii.gz", label, affine)
    assert tools.command("predict", model, raw, "--output", tmp_path, "--no-figure") == 0
    words = (tmp_path / "p_dseg.nii.gz", tmp_path / "truth.nii.gz", "--csv", tmp_path / "scores.csv")
    assert tools.command("evaluate", *words) == 0
    volumes = {row["name"]: float(row["ml"]) for row in rows(tmp_path / "volumes.csv")}
    assert {row["name"]: float(row["predicted_ml"]) for row in rows(tmp_path / "scores.csv")} == volumes
    shutil.rmtree(tmp_path)


def test_values_that_are_far_apart_are_classes_like_others(tools, tmp_path, capsys):
    truth = cube((5, 5, 5), (15, 15, 15)).astype(np.int32)
    for name, voxels in (("guess", truth * 2035), ("truth", truth * 2035 + cube((20, 20, 20), (30, 30, 30)) * 65535)):
        nib.save(nib.Nifti1Image(voxels.astype(np.int32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    (tmp_path / "guess.tsv").write_text("index\tname\n2035\tcortex\n41\tnowhere\n")
    words = (tmp_path / "guess.nii.gz", tmp_path / "truth.nii.gz", "--csv", tmp_path / "scores.csv")
    assert tools.command("evaluate", *words) == 0
    found = [(row["label"], row["name"], row["dice"]) for row in rows(tmp_path / "scores.csv")]
    assert [one[:2] for one in found] == [
        ("0", "background"), ("41", "nowhere"), ("2035", "cortex"), ("65535", "class 65535"),
    ]  # fmt: skip
    assert [one[2] for one in found[1:]] == ["", "1", "0"]


def test_an_image_is_no_label_map(tools, tmp_path, capsys):
    voxels = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "image.nii.gz")
    assert tools.command("evaluate", tmp_path / "image.nii.gz", tmp_path / "image.nii.gz") == 2
    assert "1000 values; wanted at most 256" in capsys.readouterr().err


def test_options_that_would_be_left_unused_are_refused(tools, tmp_path, capsys):
    db, model = database(tools, tmp_path, ("test",)), tools.threshold(tmp_path / "model")
    label = label_map(tmp_path / "truth.nii.gz", cube((5, 5, 5), (15, 15, 15)))
    for words, wanted in (
        ((model, db, "--labels", "gwm-white1-grey2"), "--labels is for"),
        ((label, label, "--flips"), "--flips are for a model"),
        ((label, label, "--split", "test"), "--split and"),
        ((model, label), "label the scan with `predict`"),
        ((model / "best.json", label), "label the scan with `predict`"),
        ((db, model), "named after the model"),
    ):
        assert tools.command("evaluate", *words) == 2
        assert wanted in capsys.readouterr().err


def test_axes_that_run_otherwise_are_told(tools, tmp_path, capsys):
    db, model = database(tools, tmp_path, ("test",), like="freesurfer"), tools.threshold(tmp_path / "model")
    assert tools.command("evaluate", model, db) == 0
    assert "conformed like freesurfer; the model learnt from ras" in " ".join(capsys.readouterr().out.split())
    assert tools.command("evaluate", tools.threshold(tmp_path / "own", {**tools.how, "like": "freesurfer"}), db) == 0
    assert "learnt from" not in capsys.readouterr().out


def test_heads_of_the_other_kind_are_told(tools, tmp_path, capsys):
    db = database(tools, tmp_path, ("test",))
    for stripped, told in ((False, True), (True, False), (None, False)):
        model = tools.threshold(tmp_path / "model", {**tools.how, "stripped": stripped})
        assert tools.command("evaluate", model, db) == 0
        said = "some scans are skull-stripped; the model learnt from not skull-stripped ones"
        assert (said in " ".join(capsys.readouterr().out.split())) == told
