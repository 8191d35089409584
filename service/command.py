"""`coinstac-meshnet serve`, `join` and `service`; imports nothing of the extra `service` before it is asked to."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computation.errors import ServiceError
from computation.printable import plain
from computation.terminal import say

if TYPE_CHECKING:
    from service.client.replies import Invitation

__all__ = ["add_commands"]

_SERVING = ("starlette", "uvicorn", "jinja2", "python_multipart", "argon2", "httpx", "jwt")
_JOINING = ("httpx",)
_DATA, _URL = Path("service-data"), "http://127.0.0.1:8000"


def add_commands(commands: Any) -> None:
    """Declare the three commands."""
    _add_serve(commands)
    _add_join(commands)
    parser = commands.add_parser("service", help="accounts and runs of a service (extra: service)")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_accounts(verbs)
    _add_runs(verbs)


def _add_serve(commands: Any) -> None:
    text = "be the centre over HTTPS: records and files in one folder, pages and API on one port (extra: service)"
    parser = commands.add_parser("serve", help=text, description=text)
    parser.add_argument("--port", type=_port, default=8000, help="default: 8000; 0 is any free one")
    parser.add_argument("--data", type=Path, default=_DATA, metavar="FOLDER", help=f"default: {_DATA}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine alone")
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM; with it other addresses are allowed")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM")
    parser.add_argument(
        "--behind-proxy", default="", metavar="ADDRESS", help="from which a proxy connects; it has the TLS"
    )
    text = "be no centre: a site's own pages, about the scans and runs below this folder, on this machine alone"
    parser.add_argument("--site", type=Path, metavar="FOLDER", help=text)
    parser.set_defaults(run=_serve)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65_536:
        return int(text)
    raise argparse.ArgumentTypeError(f"wanted a port from 0 to 65535, found {plain(text)[:40]!r}")


def _add_join(commands: Any) -> None:
    text = "take part in a service's run with this site's scans; started again, it goes on (extra: service)"
    parser = commands.add_parser("join", help=text, description=text)
    parser.add_argument("url", help="of the service")
    parser.add_argument("--data", type=Path, required=True, metavar="DATABASE", help="this site's scans; never sent")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for results; one for each run")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="of mode 600; default: the environment")
    parser.add_argument("--run", dest="wanted", default="", metavar="ID", help="default: the only one that invites")
    parser.add_argument("--consent", default="", metavar="SHA256", help="of the spec, where nobody can be asked")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N; default: auto")
    parser.add_argument("--initial-model", type=Path, metavar="FILE", help="JSON of the model that the run starts from")
    parser.add_argument(
        "--patience", type=float, default=24.0, metavar="HOURS", help="without a service, before giving up; default: 24"
    )
    parser.set_defaults(run=_join)


def _add_accounts(verbs: Any) -> None:
    admin = verbs.add_parser("admin", help="make the first administrator; its password is asked for, or piped in")
    site = verbs.add_parser("site", help="make a site's account, and a file of credentials for its machine")
    demo = verbs.add_parser("demo", help="two demo sites take part in a run of the service that runs beside this")
    for parser, verb in ((admin, "admin"), (site, "site"), (demo, "demo")):
        if parser is not demo:
            parser.add_argument("name")
        parser.add_argument("--data", type=Path, default=_DATA, metavar="FOLDER", help=f"default: {_DATA}")
        parser.set_defaults(run=_console(verb))
    site.add_argument("--credentials", type=Path, required=True, metavar="FILE", help="to be written, with mode 600")
    demo.add_argument("--output", type=Path, default=Path("service-demo"), metavar="FOLDER", help="for both sites")
    for parser in (site, demo):
        parser.add_argument("--url", default=_URL, help=f"by which sites reach the service; default: {_URL}")


def _add_runs(verbs: Any) -> None:
    login = _remote(verbs, "login", "exchange a password for a file of credentials")
    login.add_argument("name")
    create = _remote(verbs, "create", "make a run and invite its sites")
    create.add_argument("spec", type=Path, nargs="?", help="JSON with name, settings, participants and so on")
    create.add_argument("--name", default="", help="of the run")
    create.add_argument("--site", action="append", default=[], metavar="ACCOUNT[=NAME]", help="takes part")
    create.add_argument("--start-from", type=Path, metavar="FILE", help="JSON of an exported model, to be uploaded")
    create.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="of the training")
    for verb, text in (
        ("start", "begin with the sites that have accepted"),
        ("pause", "take no updates for a while"),
        ("resume", "go on"),
        ("abort", "end a run without a result"),
        ("watch", "print what happens in a run until it has ended"),
    ):
        _remote(verbs, verb, text).add_argument("wanted", metavar="RUN")
    _remote(verbs, "status", "list all runs, or who is in one").add_argument("wanted", nargs="?", metavar="RUN")


def _remote(verbs: Any, verb: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(verb, help=text, description=text)
    parser.add_argument("--url", default=_URL, help=f"of the service; default: {_URL}")
    parser.add_argument(
        "--credentials", type=Path, required=verb == "login", metavar="FILE", help="from `service login`, of mode 600"
    )
    parser.set_defaults(run=_console(verb))
    return parser


def _console(verb: str) -> Any:
    def run(options: argparse.Namespace) -> None:
        _need(_SERVING if verb in ("admin", "site", "demo") else _JOINING)
        if verb == "demo":
            from service.demo import demo

            demo(options)
            return
        from service import console

        moves = ("start", "pause", "resume", "abort")
        (console.move(verb) if verb in moves else getattr(console, verb))(options)

    return run


def _need(modules: tuple[str, ...]) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ServiceError(
            f"the service needs {', '.join(missing)}, which is not installed: pip install 'coinstac-meshnet[service]'"
        )


def _serve(options: argparse.Namespace) -> None:
    _need(_SERVING)
    from service.serving import Wanted, serve

    tls = options.tls_certificate, options.tls_key
    serve(Wanted(options.data, options.host, options.port, *tls, options.behind_proxy, options.site), say)


def _join(options: argparse.Namespace) -> int:
    _need(_JOINING)
    from service.client.joining import Asked, join

    asked = Asked(
        options.url,
        options.data,
        options.output,
        options.credentials,
        options.wanted,
        options.device,
        options.initial_model,
        3600 * options.patience,
    )
    return 0 if join(asked, lambda found: _consents(found, options.consent), say) else 1


def _consents(found: Invitation, given: str) -> bool:
    """Show what a site is asked for, and ask, or compare with the digest that was given."""
    for line in _described(found):
        say(line)
    if given:
        if given != found.spec.digest:
            raise ServiceError("--consent is the digest of another spec; read this one, and name its digest")
        return True
    if not sys.stdin.isatty():
        raise ServiceError("nobody can be asked for consent; read the spec above and add --consent with its digest")
    return input("Take part? [y/N] ").strip().lower() in ("y", "yes")


def _described(found: Invitation) -> list[str]:
    from computation.settings import Settings

    spec, usual = found.spec, Settings().as_json()
    different = [f"{name} {value}" for name, value in spec.settings.items() if value != usual[name]]
    return [
        f"run {found.id}: {spec.name}",
        *([spec.description] if spec.description else []),
        f"sites: {', '.join(one.site for one in spec.participants)}; this one is {found.site}",
        f"settings: {'; '.join(different) or 'all as usual'}",
        "what leaves this site: counts of scans and voxels, gradients or models, losses; no scan, name or path",
        f"spec {spec.digest}",
    ]
