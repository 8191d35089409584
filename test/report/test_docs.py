"""What the pages tell people must hold: links lead somewhere, commands are understood, and the cheap ones are run."""

import argparse
import contextlib
import functools
import importlib.util
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
import unittest.mock
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from consortium import SHORT, spheres

from computation.cli import _parser, main
from computation.coinstac.compspec import compspec
from computation.settings import Member, Settings, options

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
IMAGE = "coinstacteam/coinstac-meshnet"
#: Programs of others, whose words are not ours to check.
FOREIGN = {
    "coinstac-simulator",
    "docker",
    "mkdir",
    "source",
    "pip",
    "git",
    "npm",
    "chromium",
    "terraform",
    "aws",
    "chmod",
}
PROGRAMS = FOREIGN | {"coinstac-meshnet", "make", "python", "python3", "srun", "torchrun"}
#: Options of Docker and pip that pages name by themselves.
FOREIGN_OPTIONS = {"--tmpfs", "--user", "--read-only", "--build-arg", "--require-hashes", "--no-deps"}


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


each_page = pytest.mark.parametrize("page", PAGES, ids=names(PAGES))


# --- links ------------------------------------------------------------------------------------------------------------


def without_code(text):
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.S | re.M)


def slug(heading):
    """Return a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


def anchors(text):
    return {slug(line) for line in re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)}


def links(page):
    return re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", without_code(TEXTS[page]))


@each_page
def test_links_lead_to_files_and_headings(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(TEXTS[target]), link


def test_the_index_names_every_page():
    linked = set(links(ROOT / "docs" / "README.md"))
    assert linked >= {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_the_first_page_is_short_and_shows_two_pictures():
    text = TEXTS[ROOT / "README.md"]
    assert len(text.splitlines()) <= 120
    pictures = re.findall(r"!\[[^\]]{30,}\]\(([^)]+)\)", text)
    assert len(pictures) == 2
    assert all(0 < (ROOT / picture).stat().st_size < 300_000 for picture in pictures)


# --- commands ---------------------------------------------------------------------------------------------------------


def blocks(text):
    """Return the lines of fenced blocks that hold commands, continued lines joined."""
    fenced = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.S | re.M)
    return [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]


def spans(text):
    """Return the pieces of code within sentences."""
    return [
        " ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    ]


def commands(page):
    """Return every command that a page gives, as words; chained ones apart, variables before them left out."""
    found = []
    for line in [*blocks(TEXTS[page]), *spans(TEXTS[page])]:
        for part in line.split("&&"):
            words = re.sub(r"^(\s*[A-Z_]+=\S+)+\s+", "", part).split("  #")[0]
            if re.split(r"\s", words.strip())[0].rpartition("/")[2] in PROGRAMS:
                found.append(shlex.split(words, comments=True))
    return [words for words in found if words]


@functools.cache
def our_parser():
    return _parser()


@functools.cache
def subparsers():
    action = next(action for action in our_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return action.choices


@functools.cache
def known_options(verb):
    """Return the options of a verb, and of the verbs below it."""
    return frozenset(_options(subparsers()[verb]))


def _options(parser):
    for action in parser._actions:
        yield from action.option_strings
        for inner in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            yield from _options(inner)


def understood(words):
    """Check words after `coinstac-meshnet`: all of them, or the verb where a sentence names no more."""
    words = [word for word in words if word != "--help"]
    if words == ["VERB", "..."]:
        return
    assert words[0] in subparsers(), words
    if len(words) > 1:
        parsed = our_parser().parse_args(words)
        settings = {*options(Settings), *options(Member)}
        assert {setting.partition("=")[0] for setting in getattr(parsed, "setting", None) or ()} <= settings


def a_command_of_ours(words):
    understood(words)


def a_make_target(words):
    for target in [word for word in words if "=" not in word and not word.startswith("-")]:
        done = subprocess.run(["make", "-n", "-s", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@functools.cache
def help_of(module):
    """Return what a module prints when it is run with `--help`; here, where all that it imports has been imported."""
    shown = io.StringIO()
    with (
        unittest.mock.patch.object(sys, "argv", [module, "--help"]),
        contextlib.redirect_stdout(shown),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_module(module, run_name="__main__")
    assert not ended.value.code
    return shown.getvalue()


def a_python_program(words):
    module = words[1] if words[0] == "-m" else None
    if module is None:
        assert (ROOT / words[0]).is_file(), words
        return
    assert importlib.util.find_spec(module), words
    given = {word for word in words[2:] if word.startswith("--")}
    assert not given or given <= set(re.findall(r"--[\w-]+", help_of(module))), words


def a_container(words):
    if "run" in words and IMAGE in words:
        understood(words[words.index(IMAGE) + 1 :])


def a_launcher(words):
    """Check what a launcher of several processes is to start: our command, or a module."""
    if "coinstac-meshnet" in words:
        understood(words[words.index("coinstac-meshnet") + 1 :])
    else:
        assert importlib.util.find_spec(words[words.index("-m") + 1]), words


CHECKS = {
    "coinstac-meshnet": a_command_of_ours,
    "torchrun": a_launcher,
    "srun": a_launcher,
    "make": a_make_target,
    "python": a_python_program,
    "python3": a_python_program,
    "docker": a_container,
}


@each_page
def test_commands_are_understood(page):
    for program, *words in commands(page):
        check = CHECKS.get(program.rpartition("/")[2])
        if check and words:
            check(words)


def test_extras_exist():
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    for text in TEXTS.values():
        for names_ in re.findall(r"pip install -e '\.\[([^\]]+)\]'", text):
            assert all(re.search(rf"^{name} = \[", declared, re.M) for name in names_.split(","))


def test_a_block_holds_no_unknown_program():
    """A command that no check here knows would never be checked."""
    for page, text in TEXTS.items():
        for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.S | re.M):
            for line in filter(str.strip, block.replace("\\\n", " ").splitlines()):
                words = re.sub(r"^([A-Z_]+=(\$\(|\S+\s+))+", "", line.strip())
                assert words.startswith("#") or words.split()[0].rpartition("/")[2] in PROGRAMS, (page.name, line)


@each_page
def test_options_that_sentences_name_exist(page):
    """`--name` alone, or behind a verb: it must be an option of that verb, or of any program of ours."""
    everywhere = set().union(*map(known_options, subparsers())) | FOREIGN_OPTIONS
    if page.name == "recipe.md":
        everywhere |= set(re.findall(r"--[\w-]+", help_of("benchmarks.oasis") + help_of("benchmarks.recipe")))
    for span in spans(TEXTS[page]):
        first, *rest = span.split()
        given = {word.partition("=")[0] for word in [first, *rest] if re.match(r"--[a-z]", word)}
        if first in subparsers():
            assert given <= known_options(first), span
        elif first.startswith("--"):
            assert given <= everywhere, span


# --- run --------------------------------------------------------------------------------------------------------------


def test_the_specs_that_the_pages_name_are_written(tmp_path):
    assert main(["specs", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "compspec.json").read_text(encoding="utf-8")) == json.loads(json.dumps(compspec()))


def test_settings_are_listed(capsys):
    assert main(["settings"]) == 0
    assert "gradient-mean" in capsys.readouterr().out


def raw_site(name, seed):
    """Write three people's scans and the table of one site into the working directory."""
    lines = ["subject,image,label,split"]
    for number, part in enumerate(("train", "valid", "test")):
        image, label = spheres(24, np.random.default_rng([seed, number]), 3)
        for kind, voxels in (("", image), ("-label", label)):
            nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), f"{name}-{number}{kind}.nii.gz")
        lines.append(f"person-{seed}-{number},{name}-{number}.nii.gz,{name}-{number}-label.nii.gz,{part}")
    Path(f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_the_first_page_leads_from_scans_to_a_segmentation(tmp_path, monkeypatch):
    """The commands of `Your own scans`, word by word but for a grid as small as the two sites' scans."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("site-a", "site-b")):
        raw_site(name, seed)
    image, _ = spheres(24, np.random.default_rng(9), 3)
    nib.save(nib.Nifti1Image(image, np.diag([2.0, 2.0, 2.0, 1.0])), "scan.nii.gz")
    spec = [{name: {"value": value} for name, value in SHORT.items()}] * 2
    Path("inputspec.json").write_text(json.dumps(spec), encoding="utf-8")
    section = TEXTS[ROOT / "README.md"].partition("## Your own scans")[2].partition("\n## ")[0]
    for line in [*blocks(section), *(span for span in spans(section) if span.startswith("coinstac-meshnet predict"))]:
        for words in map(shlex.split, line.replace("--grid 108", "--grid 24").split("&&")):
            if words and words[0] == "mkdir":
                subprocess.run(words, check=True)
            elif words and words[0] == "coinstac-meshnet":
                assert main(words[1:]) == 0, line
    assert json.loads(Path("run-mine/summary.json").read_text(encoding="utf-8"))["rounds"] == 2
    assert list(tmp_path.rglob("scan_dseg.nii.gz"))
