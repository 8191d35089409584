"""A token travels with TLS or stays on this machine, and a service sends nobody anywhere else."""

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from computation.errors import ServiceError
from service.client.address import Address


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://centre.example", "https://centre.example"),
        ("https://centre.example/", "https://centre.example"),
        ("https://centre.example:8443/mesh/", "https://centre.example:8443/mesh"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        (
            "http://localhost:4570/_aws/execute-api/ab12/$default",
            "http://localhost:4570/_aws/execute-api/ab12/$default",
        ),
    ],
)
def test_urls_of_services(text, base):
    assert Address.parse(text).base == base


@pytest.mark.parametrize(
    "text",
    [
        "http://centre.example",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "http://10.0.0.1",
        "centre.example",
        "ftp://centre.example",
        "file:///etc/passwd",
        "https://",
        "https://user:password@centre.example",
        "https://centre.example:port",
        "https://centre example",
        "https://centre.example/\n",
        "https://ceñtre.example",
        "https://[::1",
        "",
    ],
)
def test_what_is_no_such_url_is_refused(text):
    with pytest.raises(ServiceError, match="https://"):
        Address.parse(text)


def test_files_lie_at_the_service_or_behind_tls():
    far, near = Address.parse("https://centre.example/mesh"), Address.parse("http://127.0.0.1:8000")
    assert far.signed("/v1/blobs/x?sig=1") == "https://centre.example/mesh/v1/blobs/x?sig=1"
    assert far.signed("https://bucket.example/x?sig=1") == "https://bucket.example/x?sig=1"
    assert near.signed("http://127.0.0.1:9000/x") == "http://127.0.0.1:9000/x"


@pytest.mark.parametrize(
    "url",
    ["//evil.example/x", "http://169.254.169.254/latest", "http://127.0.0.1/x", "file:///etc/passwd", "x", ""],
)
def test_a_service_sends_a_site_nowhere_else(url):
    address = Address.parse("https://centre.example")
    with pytest.raises(ServiceError, match="has no TLS"):
        address.signed(url)
    with pytest.raises(ServiceError, match="has no TLS"):
        Address.parse("http://127.0.0.1:8000").signed("http://169.254.169.254/latest")
