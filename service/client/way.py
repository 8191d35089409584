"""The way to a service: through the institution's proxy if there is one; and why it could not be gone."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from urllib.request import getproxies, proxy_bypass

import httpx

from computation.errors import ServiceError

__all__ = ["way", "why"]

#: OpenSSL's numbers for a certificate that is sound and signed by somebody whom this machine does not know.
_UNKNOWN_SIGNER = frozenset((18, 19, 20, 21))


def way(url: httpx.URL, local: bool) -> httpx.HTTPTransport:
    """Return the way to a host.

    Parameters
    ----------
    url : httpx.URL
        Somewhere at that host.
    local : bool
        Whether the service is this machine, to which no proxy leads.

    Raises
    ------
    ServiceError
        If the environment names a proxy or certificates that are none.
    """
    try:
        trusted = httpx.create_ssl_context()
    except OSError as error:
        text = "the environment's SSL_CERT_FILE or SSL_CERT_DIR holds no certificates; name those of who is trusted"
        raise ServiceError(f"{text}, in PEM, or take it away", str(error)) from None
    try:
        return httpx.HTTPTransport(verify=trusted, proxy=None if local else _proxy(url))
    except (ImportError, ValueError, httpx.InvalidURL):
        # The text of it may hold the proxy's password.
        raise ServiceError(
            "the environment names a proxy of a kind that is not known here; wanted http://HOST:PORT in HTTPS_PROXY, "
            "or the service's host in NO_PROXY"
        ) from None


def _proxy(url: httpx.URL) -> str | None:
    """Return the proxy that this machine's environment or system names for a URL."""
    named = getproxies()
    found = None if proxy_bypass(url.host) else named.get(url.scheme) or named.get("all")
    return found if not found or "://" in found else f"http://{found}"


def why(error: httpx.HTTPError) -> str:
    """Say in a few words what a request failed of; nothing that was answered is in them."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            told = f"its certificate is not trusted here: {cause.verify_message}"
            known = cause.verify_code not in _UNKNOWN_SIGNER
            return told if known else f"{told}; name a file with the one who signed it in SSL_CERT_FILE"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS as this machine does; is that its port for https?"
        if isinstance(cause, socket.gaierror):
            return "there is no such host, or nobody to ask for it"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there"
    if isinstance(error, httpx.ProxyError):
        return "this machine's proxy refuses"
    return type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
