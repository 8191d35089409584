"""Run kits: what NVFlare's provisioning makes, and the local rules that we put beside it.

A kit's `local` folder says what a node lets others do. Its rules are written at provisioning, and by every node once
more when it starts, whatever kit it was sent.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from computation.errors import MeshNetError
from computation.files import replacing
from neuroflame.contract import Consortium

__all__ = ["ADMIN", "CENTRE", "PROJECT", "make", "rule_server", "rule_site"]

PROJECT, ADMIN, CENTRE = "coinstac-meshnet", "admin@admin.com", "centralNode"
_ORG = "meshnet"
_JOB = Path(__file__).parent / "job"
#: The only classes that a job may name, anywhere.
_CLASSES = ["neuroflame.controller.MeshNetController", "neuroflame.executor.MeshNetExecutor"]
#: How a node's own processes speak with each other. NVFlare listens for that on all addresses, and by default takes
#: anybody.
_INSIDE = {
    "listening_host": {
        "scheme": "tcp",
        "default_host": "localhost",
        "host_names": ["localhost"],
        "connection_security": "mtls",
    }
}
_COMMUNICATION = {
    "allow_adhoc_conns": False,
    "backbone_conn_gen": 2,
    "internal": {"scheme": "tcp", "resources": {"host": "localhost", "connection_security": "mtls"}},
}
#: What NVFlare logs goes to its process's own output, which our scripts keep, and into no file that it might send. By
#: default it writes some twenty lines a round into four files.
_LOG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
    "loggers": {"root": {"level": "WARNING", "handlers": ["console"]}},
}
#: What the centre's script needs, and no more: no code with a job, no shell, no files, no louder log.
_RIGHTS = {
    "submit_job": "any",
    "manage_job": "any",
    "configure_job_log": "none",
    "operate": "none",
    "shutdown": "any",
    "clone_job": "none",
    "download_job": "none",
    "shell_commands": "none",
    "byoc": "none",
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
        made = _provision(consortium, Path(scratch))
        _spread(consortium, made, folder)


def _provision(consortium: Consortium, scratch: Path) -> Path:
    """Return NVFlare's kits; the key that signed them goes with the scratch folder."""
    from nvflare.lighter.constants import CtxKey
    from nvflare.lighter.impl.cert import CertBuilder
    from nvflare.lighter.impl.signature import SignatureBuilder
    from nvflare.lighter.impl.static_file import StaticFileBuilder
    from nvflare.lighter.impl.workspace import WorkspaceBuilder
    from nvflare.lighter.provisioner import Provisioner
    from nvflare.lighter.spec import Project

    project = Project(PROJECT, "federated training of MeshNet", props={"api_version": 3})
    project.set_server(consortium.host, _ORG, {"fed_learn_port": consortium.port, **_INSIDE})
    project.add_admin(ADMIN, _ORG, {"role": "project_admin"})
    for site in consortium.names:
        project.add_client(site, _ORG, {"allow_log_streaming": False, **_INSIDE})
    static = StaticFileBuilder(config_folder="config", scheme="grpc")
    builders = [WorkspaceBuilder(), static, CertBuilder(), SignatureBuilder()]
    context = Provisioner(str(scratch), builders).provision(project, logger=_Quiet())
    if context.get(CtxKey.BUILD_ERROR):
        raise MeshNetError("NVFlare could not provision the run; its own words are above")
    return Path(context[CtxKey.CURRENT_PROD_DIR])


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


def _spread(consortium: Consortium, made: Path, folder: Path) -> None:
    centre = folder / CENTRE
    centre.mkdir(parents=True)
    for site in consortium.names:
        shutil.move(made / site, folder / site)
        rule_site(folder / site)
    shutil.move(made / consortium.host, centre / "server")
    shutil.move(made / ADMIN, centre / "admin")
    rule_server(centre / "server", Path("/tmp/nvflare"))
    _job(centre / "job", sorted(consortium.names))
    _write(centre / "parameters.json", consortium.parameters)


def _job(folder: Path, sites: list[str]) -> None:
    """Write the job: two configurations, and no code."""
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    for path in _JOB.glob("*.json"):
        shutil.copyfile(path, config / path.name)
    # No least number of sites: NVFlare would end a job that falls below it before anybody is told why. The centre's
    # script submits when all are there, and its controller waits for each.
    _write(
        folder / "meta.json",
        {"name": PROJECT, "min_clients": 1, "deploy_map": {"app": ["server", *sites]}, "resource_spec": {}},
    )


def rule_site(kit: Path) -> None:
    """Write a site's local rules into its kit."""
    launcher = "nvflare.app_common.job_launcher.client_process_launcher.ClientProcessJobLauncher"
    _rule(
        kit,
        {**_RIGHTS, "view": "none"},
        {
            "format_version": 2,
            "class_allow_list": _CLASSES,
            "allow_log_streaming": False,
            "client": {"retry_timeout": 30},
            "components": [
                _component(
                    "resource_manager",
                    "nvflare.app_common.resource_managers.gpu_resource_manager.GPUResourceManager",
                    num_of_gpus=0,
                    mem_per_gpu_in_GiB=0,
                ),
                _component(
                    "resource_consumer",
                    "nvflare.app_common.resource_consumers.gpu_resource_consumer.GPUResourceConsumer",
                ),
                _component("process_launcher", launcher),
            ],
        },
    )


def rule_server(kit: Path, storage: Path) -> None:
    """Write the centre's local rules into its kit; jobs and snapshots lie in a folder that no other server has."""
    for kind in ("crt", "key"):  # its job process is a client of the server, which NVFlare gives no such name
        shutil.copyfile(kit / "startup" / f"server.{kind}", kit / "startup" / f"client.{kind}")
    files = "nvflare.app_common.storages.filesystem_storage.FilesystemStorage"
    snapshots = {"path": files, "args": {"root_dir": str(storage / "snapshots"), "uri_root": "/"}}
    persistor = "nvflare.app_common.state_persistors.storage_state_persistor.StorageStatePersistor"
    _rule(
        kit,
        {**_RIGHTS, "view": "any", "sys_info": "any"},
        {
            "format_version": 2,
            "class_allow_list": _CLASSES,
            "servers": [
                {"admin_storage": "transfer", "max_num_clients": 1000, "heart_beat_timeout": 60, "admin_timeout": 120.0}
            ],
            "snapshot_persistor": {"path": persistor, "args": {"uri_root": "/", "storage": snapshots}},
            "components": [
                _component(
                    "job_scheduler",
                    "nvflare.app_common.job_schedulers.job_scheduler.DefaultJobScheduler",
                    max_jobs=1,
                    min_schedule_interval=1.0,
                    max_schedule_interval=5.0,
                ),
                _component(
                    "job_manager",
                    "nvflare.apis.impl.job_def_manager.SimpleJobDefManager",
                    uri_root=str(storage / "jobs"),
                    job_store_id="job_store",
                ),
                _component("job_store", files),
                _component(
                    "process_launcher",
                    "nvflare.app_common.job_launcher.server_process_launcher.ServerProcessJobLauncher",
                ),
            ],
        },
    )


def _component(name: str, path: str, **arguments: Any) -> dict[str, Any]:
    return {"id": name, "path": path, "args": arguments}


def _rule(kit: Path, rights: dict[str, str], resources: dict[str, Any]) -> None:
    local = kit / "local"
    for name in ("resources.json.default", "resources.json"):
        _write(local / name, resources)
    _write(local / "comm_config.json", _COMMUNICATION)
    for name in ("log_config.json.default", "log_config.json"):
        _write(local / name, _LOG)
    for name in ("authorization.json.default", "authorization.json"):
        _write(local / name, {"format_version": "1.0", "permissions": {"project_admin": rights}})


def _write(path: Path, value: Any) -> None:
    with replacing(path) as partial:
        partial.write_text(f"{json.dumps(value, indent=2)}\n", encoding="utf-8")
