"""The model card: complete, honest about what is not known, and no way in for markup."""

import pytest

from computation.report import ReportData, Scores
from computation.report.card import card
from computation.settings import Settings
from computation.tracking import RoundNumbers

CLASSES = Settings().classes
PREPARATION = {"normalisation": "quantile", "spacing": [1.0, 1.0, 1.0], "tile": None}


def data(**changes):
    usual = {
        "run": "run-1",
        "outcome": "All 2 rounds done; every site holds the same model.",
        "planned": 2,
        "classes": CLASSES,
        "settings": {**Settings().as_json(), "epochs": 7},
        "facts": {"Architecture": "meshnet-10x8"},
        "scores": (Scores("Final model, test scans of all sites", dict(zip(CLASSES, (0.99, 0.8, None), strict=True))),),
        "scans": {"b": {"train": 3, "valid": 1, "test": 0}, "a": {"train": 10, "valid": 2, "test": 4}},
        "digests": {"final": "f" * 64},
    }
    return ReportData(**{**usual, **changes})


def text(**changes):
    return card(data(**changes), parameters=14211, preparation=PREPARATION)


def rows(markdown, first):
    return [line for line in markdown.splitlines() if line.startswith(f"| {first}")]


def test_counts_settings_scores_and_digests_are_there():
    found = text()
    assert rows(found, "all sites") == ["| all sites | 13 | 3 | 4 |"]
    assert found.index("| a | 10") < found.index("| b | 3")
    assert rows(found, "Final model") == [
        "| Final model, test scans of all sites | 0.990 | 0.800 | – | 0.800 | 0.895 |",
    ]
    assert rows(found, "`epochs`") == ["| `epochs` | 7 | changed |"]
    assert rows(found, "`seed`") == ["| `seed` | 0 |  |"]
    assert "f" * 64 in found
    assert rows(found, "spacing") == [r"| spacing | \[1.0, 1.0, 1.0] |"]


@pytest.mark.parametrize("title", ["Intended use", "Limits", "Data", "Accuracy", "Input", "Training", "Models"])
def test_every_section_is_there(title):
    assert f"\n## {title}\n" in text()


def test_limits_are_plain():
    assert "Not a medical device" in text()


def test_sites_and_the_best_model_have_their_own_rows():
    done = RoundNumbers(
        round=3, digest="0" * 64, loss=0.5, learning_rate=0.01, sites=2, counted=("a", "b"), validated=2,
        dice=dict.fromkeys(CLASSES, 0.5),
    )  # fmt: skip
    sites = {"a": [Scores("validation scans", dict.fromkeys(CLASSES, 0.25))]}
    found = card(data(rounds=(done,), best=2), parameters=1, preparation={}, site_scores=sites)
    assert rows(found, "a: validation scans")[0].endswith("| 0.250 | 0.250 |")
    assert "Best model (round 2), validation scans" in found


def test_the_input_of_a_site_is_what_the_model_expects_and_the_centre_knows_how_each_site_prepared_its_scans():
    assert "| expected of a scan | value |" in text(site="a")
    centre = card(data(), parameters=1, preparation={"a": "quantile, 1 x 1 x 1"})
    assert "| site | how its scans were prepared |" in centre
    assert "expected of a scan" not in centre


def test_a_best_model_that_nobody_validated_was_not_chosen_on_validation_scans():
    assert "chosen on the validation scans" not in text()
    assert "chosen on the validation scans" in text(best=2)


def test_what_is_not_known_is_said():
    assert "Nothing was validated." in text(scores=())
    assert "This site knows its own scans only" in text(site="a", scans={"a": {"train": 1}})


def test_names_cannot_break_the_table_or_bring_markup():
    found = text(classes=("background", "a|b", "<img src=x>\n# title"))
    assert "<img" not in found
    assert "\n# title" not in found
    assert r"a\|b" in found


def test_equal_input_gives_equal_text():
    assert text() == text()
