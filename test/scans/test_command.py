"""The two subcommands, as a person types them."""

import argparse

import pytest

from computation.errors import ImportScanError
from computation.scans import command
from computation.scans.making.ingest import import_table
from computation.scans.store.opening import open_store


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser.add_subparsers(required=True))
    return command.run(parser.parse_args([str(word) for word in words]))


def test_import_then_inspect(tools, capsys):
    folder = tools.folder()
    table, database = tools.table(folder, 10), folder / "site.db"
    assert run("import", table, "--db", database, "--spacing", 2, "--grid", 24) == 0
    assert "10 scans taken: 7 train, 2 valid, 1 test" in capsys.readouterr().out
    assert run("inspect", database) == 0
    shown = capsys.readouterr().out
    assert "0 background, 1 white matter, 2 grey matter" in shown and "7 train, 2 valid, 1 test" in shown
    assert shown.count("ok") == 10


def test_the_default_grid_is_a_view_of_256_mm(tools):
    folder = tools.folder()
    table = tools.table(folder, 1)
    for number, words in enumerate((("--spacing", 8), ("--spacing", 8, 16, 8, "--like", "freesurfer"))):
        assert run("import", table, "--db", folder / f"{number}.db", *words) == 0
    for number, grid in enumerate(((32, 32, 32), (32, 16, 32))):
        with open_store(folder / f"{number}.db") as store:
            assert store.scans()[0].shape == grid
            assert tuple(store.meta["provenance"]["parameters"]["target"]["grid"]) == grid
    import_table(table, folder / "python.db", spacing=8)
    with open_store(folder / "python.db") as store:
        assert store.scans()[0].shape == (32, 32, 32)


def test_import_says_what_was_cut_and_what_was_left_out(tools, capsys):
    folder = tools.folder()
    table = tools.table(folder, 3)
    (folder / "1_t1.nii.gz").unlink()
    assert run("import", table, "--db", folder / "site.db", "--spacing", 0, "--grid", 8, 24, 24) == 0
    shown = capsys.readouterr().out
    assert "p0" in shown and "of the head lies outside the grid" in shown
    assert "p1: left out: the file is missing" in shown
    assert str(folder / "1_t1.nii.gz") in shown.replace("\n", ""), "the importer is told which file"


def test_options_reach_the_import(tools, capsys):
    folder = tools.folder()
    table = tools.table(folder, 3, site=["a", "b", "b"])
    words = [
        "--labels",
        "gwm-grey1-white2",
        "--normalise",
        "z-score",
        "--split",
        1,
        0,
        0,
        "--where",
        "site=b",
        "--grid",
        0,
    ]
    assert run("import", table, "--db", folder / "site.db", "--seed", 4, "--strict", *words) == 0
    assert run("inspect", folder / "site.db", "--quick") == 0
    shown = capsys.readouterr().out
    assert "normalisation: z-score" in shown and "1 grey matter, 2 white matter" in shown and "2 train" in shown
    with pytest.raises(ImportScanError, match="exists already"):
        run("import", table, "--db", folder / "site.db")
    assert run("import", table, "--db", folder / "site.db", "--overwrite", "--grid", 24) == 0


def test_a_condition_without_a_value(tools, capsys):
    with pytest.raises(SystemExit):
        run("import", "t.csv", "--db", "x.db", "--where", "site")
    assert "wanted COLUMN=VALUE, found 'site'" in capsys.readouterr().err


def test_what_would_silently_do_nothing_is_refused(tools, tmp_path):
    image, label = tools.head((12, 12, 12))
    peer, database = tools.peer(tmp_path / "peer.db", [(image, label / 2)]), tmp_path / "site.db"
    for word in ("--dry-run", "--update"):
        with pytest.raises(ImportScanError, match="neither --dry-run nor --update"):
            run("import", "--from-peer", peer, "--db", database, word)
    with pytest.raises(ImportScanError, match="--where chooses rows of a table"):
        run("import", "--bids", tmp_path, "--db", database, "--where", "site=a")
    assert not database.exists()


def test_a_negative_seed(tools):
    folder = tools.folder()
    with pytest.raises(ImportScanError, match="the seed of the split is -1"):
        run("import", tools.table(folder, 2), "--db", folder / "a.db", "--seed", -1)


def test_class_names_are_shown_as_they_are(tools, capsys):
    assert run("inspect", tools.database(label_names=("background", "[/w]", "[g]")), "--quick") == 0
    assert "1 [/w], 2 [g]" in capsys.readouterr().out


def test_inspect_finds_damage(tools, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tools.spoil(tools.database(), "UPDATE blocks SET crc32 = crc32 + 1 WHERE block = 13")
    assert run("inspect", path) == 1
    shown = capsys.readouterr().out
    assert "checksum-mismatch" in shown and "block 13" in " ".join(shown.split())


def test_inspect_shows_a_peers_table(tools, capsys):
    image, label = tools.head((12, 12, 12))
    path = tools.peer(tools.folder() / "p.db", [(image, label / 2)], table="hospital")
    assert run("inspect", path, "--table", "hospital") == 0
    assert "format: peer" in capsys.readouterr().out


def test_a_dry_run_then_the_run_then_an_update(tools, capsys):
    folder = tools.folder()
    table, database = tools.table(folder, 3), folder / "site.db"
    words = ("import", table, "--db", database, "--spacing", 2, "--grid", 24, "--jobs", 1)
    assert run(*words, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "3 scans would be taken" in shown and "p0: new, " in shown and not database.exists()
    assert run(*words) == 0
    assert "(3 new)" in capsys.readouterr().out
    assert run(*words, "--update") == 0
    assert "(3 unchanged)" in capsys.readouterr().out


def test_freesurfer_and_bids_reach_their_readers(tmp_path):
    with pytest.raises(ImportScanError, match="SUBJECTS_DIR holds no subject"):
        run("import", "--freesurfer", tmp_path, "--db", tmp_path / "a.db")
    with pytest.raises(ImportScanError, match="not a BIDS dataset"):
        run("import", "--bids", tmp_path, "--db", tmp_path / "a.db")


def test_one_source_and_only_one(tmp_path, capsys):
    for words in ((), ("--freesurfer", tmp_path, "--bids", tmp_path)):
        with pytest.raises(SystemExit):
            run("import", *words, "--db", tmp_path / "a.db")


def test_numbers_of_sides(tools):
    folder = tools.folder()
    with pytest.raises(ImportScanError, match="wanted one or three numbers, found 2"):
        run("import", tools.table(folder, 1), "--db", folder / "a.db", "--grid", 8, 8)


def test_from_the_peer_and_migrate_and_figure(tools, capsys):
    pytest.importorskip("matplotlib")
    folder = tools.folder()
    image, label = tools.head((12, 12, 12))
    peer = tools.peer(folder / "peer.db", [(image, label / 2)] * 3)
    database = folder / "site.db"
    assert run("import", "--from-peer", peer, "--db", database) == 0
    assert "3 scans taken" in capsys.readouterr().out
    assert run("migrate", database) == 0 and run("migrate", database, "--to", folder / "b.db") == 0
    assert database.read_bytes() == (folder / "b.db").read_bytes()
    assert run("inspect", database, "--figure", folder / "m.png", "--scan", 2) == 0
    assert (folder / "m.png").exists() and "figure:" in capsys.readouterr().out
