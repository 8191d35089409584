"""Whole runs as NeuroFLAME starts them, over mutual TLS: the bits of COINSTAC, and results where members look."""

import json

import pytest
from neuroflame_runs import inputs, run, said, spec

from simulator import embedded
from simulator.layout import CENTRE


@pytest.mark.parametrize(("sites", "strategy"), [(2, "gradient-mean"), (4, "fedavg")])
def test_a_run_ends_in_the_digest_of_simulate(tmp_path, monkeypatch, sites, strategy):
    folder = inputs(tmp_path, sites)
    monkeypatch.setenv(
        "https_proxy", "http://127.0.0.1:9"
    )  # of the world outside: no node asks it for another one here
    result, layout = run(tmp_path, sites, strategy=strategy)
    wanted = embedded.run(spec(strategy=strategy), inputs=folder, output=tmp_path / "simulated", sites=sites)
    assert result.output["model_digest"] == wanted.output["model_digest"]
    assert result.output["dice"] == wanted.output["dice"]
    for site in result.sites:
        output = layout.output(site)
        assert (output / "index.html").is_file() and list((output / "predictions").iterdir())
        assert (output / "model/best.safetensors").is_file() or list((output / "model").rglob("*.safetensors"))
        page = (output / "the-centre/index.html").read_text()
        assert "<iframe sandbox" in page and "<script" not in page
        summary = json.loads((output / "the-centre/summary.json").read_text())
        assert summary["model_digest"] == wanted.output["model_digest"]
        assert said(layout, site) == "coinstac-meshnet: the run has succeeded"
    assert said(layout, CENTRE) == "coinstac-meshnet: the run has succeeded"
    kits = list(layout.cache(CENTRE).glob("runKits/*"))
    assert {path.name for path in kits} == {"centralNode", *result.sites}
    assert not list(layout.cache(CENTRE).rglob("cert.json"))  # the key that signs is gone with the provisioning
