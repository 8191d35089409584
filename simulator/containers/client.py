"""Speaking to the Docker Engine, with its refusals in our words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from computation.errors import SimulatorError

__all__ = ["asking", "connect", "need_image", "need_own_addresses"]


def connect() -> Any:
    """Return a client of the engine that DOCKER_HOST names, by default of this machine's.

    Raises
    ------
    SimulatorError
        If the SDK is not installed or no engine answers.
    """
    try:
        import docker
    except ImportError as error:
        raise SimulatorError(
            "the Docker SDK for Python is not installed; install coinstac-meshnet[docker]", str(error)
        ) from error
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        client = docker.from_env()
        client.ping()
    except (DockerException, RequestException, OSError) as error:
        raise SimulatorError(
            "no Docker Engine answers; start Docker, or simulate without --engine docker", str(error)
        ) from error
    return client


def need_image(client: Any, image: str) -> None:
    """Refuse an image that is not there: nothing is ever pulled."""
    from docker.errors import ImageNotFound

    try:
        client.images.get(image)
    except ImageNotFound as error:
        raise SimulatorError(
            f"there is no image {image}; build it with `make image`, or name one with --image"
        ) from error


def need_own_addresses(information: dict[str, Any]) -> None:
    """Refuse an engine in a virtual machine, whose containers' own addresses lead nowhere."""
    if sys.platform != "linux" or "Docker Desktop" in information.get("OperatingSystem", ""):
        raise SimulatorError("Docker Desktop cannot reach containers that have no network; give --network bridge")


@contextlib.contextmanager
def asking(failure: str) -> Iterator[None]:
    """Say in our words what the engine refused, and in its own why."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        raise SimulatorError(f"Docker: {failure}: {_reason(error)}", str(error)) from error


def _reason(error: Exception) -> str:
    text = str(getattr(error, "explanation", None) or error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
