"""What a node lets others do: the `local` folder of its kit, written at provisioning and again whenever it starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from computation.files import replacing

__all__ = ["rule_server", "rule_site", "write"]

#: The only classes that a job may name, anywhere.
_CLASSES = ["neuroflame.controller.MeshNetController", "neuroflame.executor.MeshNetExecutor"]
#: NVFlare's own choice inside a node is plain TCP, which holds back for 40 ms what follows a small message (Nagle's
#: algorithm beside a delayed acknowledgement): more than half of a round's time. gRPC holds back nothing.
_COMMUNICATION = {
    "allow_adhoc_conns": False,
    "backbone_conn_gen": 2,
    "internal": {"scheme": "grpc", "resources": {"host": "localhost", "connection_security": "mtls"}},
}
#: Seconds after which NVFlare itself gives a silent client up: never before our own limit, `Timing.silence`, says so.
_SILENCE = 86_400
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


def rule_site(kit: Path) -> None:
    """Write a site's local rules into its kit."""
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
                _component("process_launcher", "neuroflame.launcher.MeshNetLauncher"),
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
                {
                    "admin_storage": "transfer",
                    "max_num_clients": 1000,
                    "heart_beat_timeout": _SILENCE,
                    "admin_timeout": 120.0,
                }
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
        write(local / name, resources)
    write(local / "comm_config.json", _COMMUNICATION)
    for name in ("log_config.json.default", "log_config.json"):
        write(local / name, _LOG)
    for name in ("authorization.json.default", "authorization.json"):
        write(local / name, {"format_version": "1.0", "permissions": {"project_admin": rights}})


def write(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(f"{json.dumps(value, indent=2)}\n", encoding="utf-8")
