"""Run kits: what NVFlare's provisioning makes, with rules of our own in their `local` folders."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from computation.errors import MeshNetError
from neuroflame.contract import Consortium
from neuroflame.rules import rule_server, rule_site, write

__all__ = ["ADMIN", "CENTRE", "PROJECT", "make"]

PROJECT, ADMIN, CENTRE = "coinstac-meshnet", "admin@admin.com", "centralNode"
_ORG = "meshnet"
_JOB = Path(__file__).parent / "job"
#: How a node's own processes speak with each other. NVFlare listens for that on all addresses, and by default takes
#: anybody.
_INSIDE = {
    "listening_host": {
        "scheme": "grpc",
        "default_host": "localhost",
        "host_names": ["localhost"],
        "connection_security": "mtls",
    }
}


def make(consortium: Consortium, folder: Path) -> None:
    """Provision a consortium.

    Parameters
    ----------
    consortium : Consortium
        Who takes part.
    folder : Path
        `runKits`; made, and it must not hold kits yet.

    Raises
    ------
    MeshNetError
        If there are kits already, or NVFlare refuses.
    """
    if folder.exists() and any(folder.iterdir()):
        raise MeshNetError("there are run kits already; provision each run into a folder of its own", str(folder))
    with tempfile.TemporaryDirectory(prefix="meshnet-provision-") as scratch:
        made, server = _provision(consortium, Path(scratch))
        _spread(consortium, made, server, folder)


def _provision(consortium: Consortium, scratch: Path) -> tuple[Path, Path]:
    """Return NVFlare's kits, and the server's; the key that signed them goes with the scratch folder."""
    from nvflare.lighter.constants import CtxKey
    from nvflare.lighter.impl.cert import CertBuilder
    from nvflare.lighter.impl.signature import SignatureBuilder
    from nvflare.lighter.impl.static_file import StaticFileBuilder
    from nvflare.lighter.impl.workspace import WorkspaceBuilder
    from nvflare.lighter.provisioner import Provisioner
    from nvflare.lighter.spec import Project

    project = Project(PROJECT, "federated training of MeshNet", props={"api_version": 3})
    # Its own job process calls it by another name than the sites do.
    names = {"host_names": ["localhost"]}
    project.set_server(consortium.host, _ORG, {"fed_learn_port": consortium.port, **names, **_INSIDE})
    project.add_admin(ADMIN, _ORG, {"role": "project_admin"})
    for site in consortium.names:
        project.add_client(site, _ORG, {"allow_log_streaming": False, **_INSIDE})
    static = StaticFileBuilder(config_folder="config", scheme="grpc")
    builders = [WorkspaceBuilder(), static, CertBuilder(), SignatureBuilder()]
    context = Provisioner(str(scratch), builders).provision(project, logger=_Quiet())
    if context.get(CtxKey.BUILD_ERROR):
        raise MeshNetError("NVFlare could not provision the run; its own words are above")
    made = Path(context[CtxKey.CURRENT_PROD_DIR])
    # NVFlare cuts a name that is too long for a certificate; what sites connect to stays whole.
    return made, made / project.get_server().name


class _Quiet:
    """NVFlare's provisioning tells its steps to whoever listens; only what goes wrong is of use."""

    def debug(self, text: str) -> None:
        """Drop it."""

    def info(self, text: str) -> None:
        """Drop it."""

    def warning(self, text: str) -> None:
        """Drop it."""

    def error(self, text: str) -> None:
        """Show it."""
        print(text, flush=True)


def _spread(consortium: Consortium, made: Path, server: Path, folder: Path) -> None:
    centre = folder / CENTRE
    centre.mkdir(parents=True)
    for site in consortium.names:
        shutil.move(made / site, folder / site)
        rule_site(folder / site)
    shutil.move(server, centre / "server")
    shutil.move(made / ADMIN, centre / "admin")
    rule_server(centre / "server", Path("/tmp/nvflare"))
    _job(centre / "job", sorted(consortium.names))
    write(centre / "parameters.json", consortium.parameters)


def _job(folder: Path, sites: list[str]) -> None:
    """Write the job: two configurations, and no code."""
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    for path in _JOB.glob("*.json"):
        shutil.copyfile(path, config / path.name)
    # No least number of sites: NVFlare would end a job that falls below it before anybody is told why. The centre's
    # script submits when all are there, and its controller waits for each.
    write(
        folder / "meta.json",
        {"name": PROJECT, "min_clients": 1, "deploy_map": {"app": ["server", *sites]}, "resource_spec": {}},
    )
