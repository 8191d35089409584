"""Where a service answers, and where it may send a site; a token never travels without TLS, but to this machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from computation.errors import ServiceError

__all__ = ["Address", "is_local"]


@dataclass(frozen=True)
class Address:
    """A service's URL.

    Attributes
    ----------
    base : str
        Without a slash at the end; paths of the service come behind it.
    origin : str
        Scheme, host and port.
    local : bool
        Whether that is this machine.
    """

    base: str
    origin: str
    local: bool

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read what a person typed.

        Raises
        ------
        ServiceError
            If it is no URL of a service, or one without TLS that is not on this machine.
        """
        parts = _split(text)
        if parts is None:
            raise ServiceError("the service's URL is none; wanted https://host or https://host:port, with no password")
        scheme, netloc, host, path = parts
        local = is_local(host)
        if scheme == "http" and not local:
            raise ServiceError("the service's URL has no TLS, so that anybody on the way could read; wanted https://")
        return cls(f"{scheme}://{netloc}{path.rstrip('/')}", f"{scheme}://{netloc}", local)

    def url(self, path: str) -> str:
        """Return the URL of one of the service's own paths."""
        return self.base + path

    def signed(self, url: str) -> str:
        """Return where a signed URL leads.

        Raises
        ------
        ServiceError
            If it leads out of TLS: the service might otherwise have a site ask its own network for something.
        """
        if url.startswith("/") and not url.startswith("//"):
            return self.base + url
        parts = _split(url)
        if parts is None or (parts[0] == "http" and not (self.local and is_local(parts[2]))):
            raise ServiceError("the service sent a URL for a file that is none, or has no TLS; tell its administrator")
        return url


def _split(url: str) -> tuple[str, str, str, str] | None:
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > 8000:
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.fragment:
        return None
    return parts.scheme, parts.netloc, host, parts.path


def is_local(host: str) -> bool:
    """Tell whether a host's name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
