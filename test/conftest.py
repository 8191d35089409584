"""Every test computes with one thread, so that bits do not depend on the machine, and none depends on its speed."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

# The repository last inserted, so first: test/ has folders of the same names as its packages.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # tests import ONNX Runtime themselves, too


def pytest_configure(config):
    import torch
    from hypothesis import settings

    torch.set_num_threads(1)
    # An example that another program keeps waiting has not failed.
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


#: Extras whose tests are left out where they are not installed, and what shows it.
EXTRAS = {
    "nvflare": ("nvflare",),
    "mesh": ("zmq", "pyftpdlib", "OpenSSL"),
    "swarm": ("libp2p",),
    "privacy": ("dp_accounting",),
    "service": ("starlette", "uvicorn", "jinja2", "multipart", "argon2", "httpx", "jwt", "cryptography"),
    "aws": ("boto3", "mangum"),
    "dev-service": ("schemathesis", "playwright", "axe_core_python"),
}


def missing(extra):
    """Return the names of what is not installed of an extra."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def pytest_ignore_collect(collection_path):
    """Leave out the service's tests without its extra, which their common parts already need."""
    return True if collection_path == Path(__file__).parent / "service" and missing("service") else None


def pytest_terminal_summary(terminalreporter):
    for extra in EXTRAS:
        if lacking := missing(extra):
            text = f"NOT TESTED: {extra}, since {', '.join(lacking)} is not installed (pip install .[{extra}])"
            terminalreporter.write_line(text, red=True, bold=True)
    if shutil.which("chromium") is None:
        text = "NOT TESTED: the service's pages in a browser, since chromium is not installed (Debian has it)"
        terminalreporter.write_line(text, red=True, bold=True)
