"""Kits as NVFlare makes them, by the certificates and addresses that they hold."""

import json

import pytest

pytest.importorskip("nvflare", reason="NEUROFLAME IS NOT TESTED: its extra is not installed")

from cryptography import x509

from neuroflame import provision

LONG = f"{'a' * 40}.{'b' * 40}.example.org"  # a load balancer's may be; a certificate's own name holds 64 characters


@pytest.mark.parametrize("host", ["centre.example.org", LONG])
def test_the_centres_certificate_has_the_sites_name_for_it_and_its_own_whatever_their_length(tmp_path, host):
    asked = {"users": [{"id": "a", "name": "A"}], "fed_learn_port": 8102, "host_identifier": host}
    (tmp_path / "provision_input.json").write_text(json.dumps(asked))
    assert provision.main(["--folder", str(tmp_path)]) == 0
    kits = tmp_path / "runKits"
    certificate = x509.load_pem_x509_certificate((kits / "centralNode/server/startup/server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {host, "localhost"} <= set(names.get_values_for_type(x509.DNSName))
    told = json.loads((kits / "a/startup/fed_client.json").read_text())["servers"][0]
    assert told["service"]["target"] == f"{host}:8102"
