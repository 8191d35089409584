# One image for a site and for the centre. `make image` builds it; `docker build -t coinstacteam/coinstac-meshnet .` too.
#
#   --build-arg FLAVOUR=cu130        a CUDA build of PyTorch instead of the CPU one
#   --build-arg EXTRAS="wandb"       fewer of the extras of pyproject.toml, or none: see docs/docker.md for their weight
#   --build-arg TORCH_INDEX=URL      where PyTorch's wheels are, if not at its own site
#   --build-arg BASE=, BUILDER=      other base images; BUILDER may bring a compiler, certificates and pip settings.
#                                    BASE=python:3.11-slim-bookworm@sha256:... pins it: see docs/docker.md
#
# `docker run IMAGE` serves COINSTAC on port 8881 (or COINSTAC_PORT); `docker run IMAGE VERB ...` is the command line.
ARG BASE=python:3.11-slim-bookworm
ARG BUILDER=${BASE}

# --- the dependencies: the slow layer, made anew only when requirements/ changes -----------------------------------------
FROM ${BUILDER} AS dependencies
ARG FLAVOUR=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/${FLAVOUR}
ARG EXTRAS="wandb figures export privacy nvflare"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PYTHONDONTWRITEBYTECODE=1
RUN command -v g++ >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*; }
# pip lives apart, so that the environment which the image keeps holds none; both come from the lock file, by their hash.
COPY requirements /build/requirements
RUN python3 -m venv /opt/tools && /opt/tools/bin/python /build/requirements/install.py --only build \
    && python3 -m venv --without-pip /opt/venv
# The CPU build of PyTorch carries the same version as the CUDA one, so only the index it comes from tells them apart.
RUN /opt/tools/bin/python /build/requirements/install.py --python /opt/venv/bin/python --torch-index "${TORCH_INDEX}" \
      --extras "${EXTRAS}" \
    && /opt/venv/bin/python -c "import sys, torch; flavour = '${FLAVOUR}'; \
sys.exit(f'wanted the CPU build of PyTorch, found {torch.__version__}' if flavour == 'cpu' and torch.version.cuda else 0)"
# Left out: PyTorch's headers, C++ tests and build tools (its memory manager stays), static libraries, the packages' tests.
RUN cd /opt/venv/lib/python3*/site-packages \
    && rm -rf torch/include torch/test torch/share/cmake \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find . -name '*.a' -delete \
    && find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} + \
    && echo /opt/application > application.pth

# --- the native kernels, compiled anew only when their own sources change ------------------------------------------------
FROM dependencies AS kernels
COPY computation/model/native /build/computation/model/native
RUN python3 /build/computation/model/native/build.py

# --- this package, byte-compiled ---------------------------------------------------------------------------------------
FROM kernels AS application
COPY . /build
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --no-build-isolation --target /opt/application /build \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/application

# --- what runs: no compiler, no pip, no cache --------------------------------------------------------------------------
FROM ${BASE}
# Nothing is written outside /tmp, so any user may run it on a read-only root; the names stand in for a missing account.
ENV PATH=/opt/venv/bin:/opt/application/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
    HOME=/tmp USER=meshnet LOGNAME=meshnet XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/cache TORCH_HOME=/tmp/cache \
    WANDB_DIR=/tmp WANDB_CACHE_DIR=/tmp/cache WANDB_CONFIG_DIR=/tmp/cache \
    ORT_DISABLE_TELEMETRY=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=dependencies /opt/venv /opt/venv
# Compile just the modules that a start, a figure and logging import: compiling everything would add a hundred megabytes, nothing several seconds.
RUN /opt/venv/bin/python -c "import asyncio, http, logging.handlers, py_compile, sqlite3, sys, unittest.mock; \
import nibabel, numpy, rich.console, safetensors.numpy, scipy.ndimage, torch, websockets.asyncio.server, zstandard; \
import importlib.util as util; \
extras = [name for name in ('matplotlib.figure', 'matplotlib.backends.backend_agg', 'wandb') if util.find_spec(name.split('.')[0])]; \
[__import__(name) for name in extras]; \
files = {getattr(module, '__file__', None) or '' for module in list(sys.modules.values())}; \
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH; \
[py_compile.compile(name, invalidation_mode=mode, doraise=True) for name in sorted(files) if name.startswith('/') and name.endswith('.py')]"
COPY computation/coinstac/image.sh /usr/local/bin/meshnet-image
COPY --from=application /opt/application /opt/application
# NeuroFLAME's commands and mount points; without the extra nvflare the commands say so.
RUN mkdir -p /workspace/system /workspace/runKit /workspace/data /workspace/output /provisioning \
    && ln -s /opt/application/neuroflame/system/entry_*.py /workspace/system/
ARG VERSION=0
ARG REVISION=unknown
ARG SOURCE=unknown
ARG BASE
LABEL org.opencontainers.image.title="coinstac-meshnet" \
      org.opencontainers.image.description="Federated training of MeshNet brain-tissue segmentation on COINSTAC" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.neuroflame.computation-api.version="0.1.0" \
      org.neuroflame.boilerplate.version="0.1.0" \
      org.neuroflame.nvflare.version="2.8.0"
EXPOSE 8881
ENTRYPOINT ["/usr/local/bin/meshnet-image"]
# By its path: with -m, Python would run modules of the working directory, which `docker run -w` may set to a data folder.
CMD ["/opt/venv/bin/python", "/opt/application/computation/entry.py"]
