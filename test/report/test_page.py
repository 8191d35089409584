"""The page is valid, self-contained, honest, and cannot be hijacked by a name."""

import dataclasses
import re
import stat
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from computation import report
from computation.errors import MeshNetError
from computation.report import Prediction, ReportData, Scores, write_centre_report, write_site_report
from computation.settings import Settings
from computation.tracking import Notice, RoundNumbers, SiteNumbers

CLASSES = ("background", "white matter", "grey matter")
HOSTILE = "<script>alert('x')</script>\"'&<img src=x onerror=y>\x00\u202e]]>--></style>{url(//evil)}"
VOID = {"meta", "br", "col"}


def record(number, word):
    """One round in which every text is `word`."""
    dice = {name: 0.5 + 0.1 * place for place, name in enumerate(CLASSES)}
    return RoundNumbers(
        number,
        word,
        loss=1 / number,
        own_loss=1.1 / number,
        learning_rate=0.01,
        sites=2,
        counted=(f"{word}1",),
        skipped={f"{word}2": word},
        samples=3,
        unreadable=1,
        seconds=0.9,
        own_seconds=0.7,
        sent=100,
        received=200,
        validated=number - 1,
        dice=dice,
        own_dice=dice,
        best=0,
        by_site={f"{word}1": SiteNumbers(loss=0.5, samples=3, seconds=0.7, received=100)},
    )


def data(count=3, word="plain", **changes):
    """A whole record in which every foreign text is `word`."""
    base = ReportData(
        run=word,
        site=f"{word}1",
        outcome=word,
        planned=count,
        classes=CLASSES,
        settings={**Settings(epochs=7).as_json(), word: word},
        member={"data": [word], "device": word, "wandb": {"project": word, "api_key": "SECRET-KEY"}},
        facts={word: word},
        rounds=tuple(record(number, word) for number in range(1, count + 1)),
        best=count - 1,
        scores=(Scores(word, {"background": 0.9, "white matter": 0.8, "grey matter": None}, 4),),
        scans={f"{word}1": {"train": 1, "valid": 2, "test": 3}},
        digests={word: word},
        site_digests={f"{word}1": word, f"{word}2": word},
        notices=(Notice(word, word, 2),),
        predictions=(Prediction(f"{word}-file", word, {"white matter": 0.8}),),
        files={f"{word}-other": word},
    )
    return dataclasses.replace(base, **changes)


def site_page(folder, shown):
    return write_site_report(folder, shown).read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Walks the page as a browser does, and checks that every element is closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID, f"<{tag}/> is not closed in HTML"
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def words(page):
    """Return the visible text, as one line."""
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    return re.sub(r"\s+", " ", " ".join(tree.find("body").itertext()))


@pytest.mark.parametrize("write", [write_site_report, write_centre_report])
@pytest.mark.parametrize("rounds", [0, 1, 2, 1000])
def test_well_formed_for_any_number_of_rounds(tmp_path, write, rounds):
    page = write(tmp_path, data(rounds)).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>\n<html lang=")
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert tree.find("./head/title").text
    assert outline(page).tags[:2] == ["html", "head"]
    assert len(page) < 1_200_000
    assert "nan" not in re.findall(r'd="[^"]*"', page)


def test_an_empty_record_still_makes_a_page(tmp_path):
    page = site_page(tmp_path, ReportData(run="", outcome="", planned=0, classes=(), settings={}))
    assert "No round has been finished." in words(page)


@pytest.mark.parametrize("write", [write_site_report, write_centre_report])
def test_nothing_is_loaded_from_anywhere_and_nothing_runs(tmp_path, write):
    page = write(tmp_path, data(3)).read_text(encoding="utf-8")
    seen = outline(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "a", "base", "form", "use"} & set(seen.tags)
    names = {name for _, name, _ in seen.attributes}
    assert not {"src", "href", "srcset", "action", "style", "background"} & names
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:|//", re.search(r"<style>(.*?)</style>", page, re.S).group(1))
    (policy,) = [value for _, name, value in seen.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("write", [write_site_report, write_centre_report])
def test_hostile_names_change_no_element_and_no_attribute(tmp_path, write):
    plain = outline(write(tmp_path, data(3)).read_text(encoding="utf-8"))
    hostile = write(tmp_path, data(3, HOSTILE)).read_text(encoding="utf-8")
    seen = outline(hostile)
    assert seen.tags == plain.tags
    assert [pair[:2] for pair in seen.attributes] == [pair[:2] for pair in plain.attributes]
    assert "<script" not in hostile
    assert "\u202e" not in hostile
    assert any("<script>alert('x')</script>" in text for text in seen.text)


def test_numbers_are_shown(tmp_path):
    seen = words(site_page(tmp_path, data(3)))
    for wanted in ("Foreground Dice 0.800 plain", "0.90 s", "0.70 s", "100 B", "200 B", "0.0100", "of 3 planned"):
        assert wanted in seen


def test_accuracy_is_given_per_class_and_as_both_means(tmp_path):
    scores = (Scores("final", {"background": 0.9, "white matter": 0.8, "grey matter": 0.6}, 4),)
    assert "final 4 0.900 0.800 0.600 0.700 0.767" in words(site_page(tmp_path, data(2, scores=scores)))


def test_every_validation_is_listed_pooled_and_own(tmp_path):
    rounds = tuple(
        dataclasses.replace(
            record(1, "s"), round=number, validated=number - 1, dice={}, own_dice={"white matter": 0.123}
        )
        for number in (1, 2)
    )
    seen = words(site_page(tmp_path, data(2, rounds=rounds)))
    assert seen.count("0.123") >= 2


def test_nothing_that_went_wrong_is_hidden(tmp_path):
    void = dataclasses.replace(record(2, "s"), void=True, counted=(), skipped={"s1": "out-of-memory"})
    seen = words(site_page(tmp_path, data(5, rounds=(record(1, "s"), void), word="s")))
    for wanted in (
        "s1 did not count: the device ran out of memory",
        "too few sites contributed and nothing was applied",
        "a scan could not be read and was left out",
        "2 of 5 planned rounds were run",
        "settings have their default value",
    ):
        assert wanted in seen


def test_a_best_model_that_nothing_was_compared_with_is_told(tmp_path):
    told = "nothing was validated, so the 'best' model is only the last one"
    blind = dataclasses.replace(record(1, "s"), validated=-1, dice={}, own_dice={})
    assert told in words(site_page(tmp_path, data(1, rounds=(blind,), best=-1, scores=())))
    assert told not in words(site_page(tmp_path, data(1, rounds=(blind,), best=-1)))
    assert told not in words(site_page(tmp_path, data(1, best=1, scores=())))


def test_defaults_and_changes_are_told_apart(tmp_path):
    page = site_page(tmp_path, data(1))
    assert "1 changed from their default" in words(page)
    assert re.search(r'<tr class="marked"><th scope="row" class="code">epochs</th><td>7</td><td[^>]*>0</td>', page)


def test_one_model_or_a_warning(tmp_path):
    assert "The 2 sites ended with one and the same model." in words(site_page(tmp_path, data(1)))
    split = data(1, site_digests={"a": "0", "b": "1"})
    assert "The sites did not end with the same model." in words(site_page(tmp_path, split))


def test_a_table_that_is_cut_says_so(tmp_path):
    seen = words(site_page(tmp_path, data(2100)))
    assert "the table of rounds shows the last 2000; metrics.csv has them all" in seen


@pytest.mark.parametrize("write", [write_site_report, write_centre_report])
def test_a_key_is_never_shown(tmp_path, write):
    assert "SECRET-KEY" not in write(tmp_path, data(1)).read_text(encoding="utf-8")


def test_the_site_s_page_lists_its_files_and_the_centre_s_never_does(tmp_path):
    private = data(2, predictions=(Prediction("sub-JaneDoe.nii.gz", "test"),), files={"JaneDoe.txt": "x"})
    private = dataclasses.replace(private, member={"data": ["JaneDoe.db"]}, site="JaneDoe")
    assert "sub-JaneDoe.nii.gz" in site_page(tmp_path / "site", private)
    assert "JaneDoe" not in write_centre_report(tmp_path / "centre", private).read_text(encoding="utf-8")


def test_many_classes_and_many_sites_fit(tmp_path):
    classes = ("background", *(f"region {number}" for number in range(103)))
    sites = [f"site{number}" for number in range(40)]
    rounds = tuple(
        RoundNumbers(
            number,
            "d",
            validated=number,
            dice=dict.fromkeys(classes, 0.5),
            counted=tuple(sites),
            sites=40,
            by_site={name: SiteNumbers(loss=1.0, samples=1) for name in sites},
        )
        for number in (1, 2)
    )
    page = site_page(tmp_path, data(2, classes=classes, rounds=rounds, scores=()))
    outline(page)
    assert "region 102" in words(page)
    assert "site39" in words(page)


def test_a_page_replaces_the_one_before_and_is_readable_by_the_host(tmp_path):
    for outcome in ("first", "second"):
        path = write_site_report(tmp_path / "new", data(1, outcome=outcome))
    assert "second" in words(path.read_text(encoding="utf-8"))
    assert [item.name for item in path.parent.iterdir()] == ["index.html"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_page_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MeshNetError, match=r"index\.html cannot be written") as caught:
        write_site_report(tmp_path / "file", data(1))
    assert str(tmp_path) not in caught.value.public


def themes():
    """Return the colours of the light and the dark theme by name."""
    style = (Path(report.__file__).parent / "page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.S)
    return [dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", block)) for block in (light, dark)]


def luminance(colour):
    """Relative luminance after WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_the_paper(theme):
    colours = themes()[theme]
    assert set(colours) == set(themes()[1 - theme])
    for name in ("ink", "quiet", "good", "bad", "accent"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    assert contrast(colours["ink"], colours["mark"]) >= 4.5
    assert contrast(colours["quiet"], colours["mark"]) >= 4.5
    for number in range(7):
        assert contrast(colours[f"c{number}"], colours["paper"]) >= 3, number


def test_what_a_centre_names_without_end_is_cut_with_a_word(tmp_path):
    """A thousand sites with long names, and as many reasons: the page stays one that a browser opens."""
    names = [f"{number:04d}" + "x" * 196 for number in range(1000)]
    done = tuple(
        dataclasses.replace(
            record(number, "site"),
            sites=1000,
            skipped=dict.fromkeys(names[1:], f"reason {number} " + "y" * 180),
            missing=dict.fromkeys(names, "z" * 190),
        )
        for number in range(1, 31)
    )
    many = dataclasses.replace(
        data(30, "site"),
        rounds=done,
        site_digests=dict.fromkeys(names, "ab" * 32),
        notices=tuple(Notice("difference", f"note {name}", 1) for name in names),
    )
    write_site_report(tmp_path, many)
    page = (tmp_path / "index.html").read_text()
    assert len(page) < 3_000_000
    assert "more; journal.jsonl has them all." in page and "and 980 more" in page and "and 10 more" in page
    assert names[5] in page and names[900] not in page
