#!/usr/bin/env bash
# Have a Docker Engine and build the image with it.
#
#   engine.sh start          an engine answers and the base image is there
#   engine.sh image [NAME]   the same, then `docker build` of this repository as NAME
#
# Where root may, Debian's docker.io is installed and dockerd started. The base image is the one that the Dockerfile names;
# where a registry answers, the image is built on its digest, which is printed. Where none does, a Debian bookworm of the
# same name stands in for the base image, and a second one with a compiler, this machine's certificates and its pip
# settings stands in for the builder, so that the Dockerfile is built as it is. Doing it twice changes nothing.
#
# Exit status: 0 done, 3 no engine can be had here (said in one loud line), anything else is a failure.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PYTHON=${PYTHON:-python3}
STAND_IN=${STAND_IN:-coinstac-meshnet-builder:stand-in}
NAME=${NAME:-coinstacteam/coinstac-meshnet}
LOG=${DOCKERD_LOG:-/var/log/dockerd.log}

# The first of the Dockerfile's arguments, in plain bash.
default_base() {
  local word value
  while read -r word value _; do
    case "$word $value" in "ARG BASE="*) printf '%s' "${value#BASE=}" && return ;; esac
  done <"$root/Dockerfile"
}
BASE=${BASE:-$(default_base)}

say() { printf '%s\n' "engine: $*" >&2; }

refuse() {
  printf '\n##### NO DOCKER ENGINE: %s. Nothing below was checked with real Docker. #####\n\n' "$*" >&2
  exit 3
}

answers() { docker info >/dev/null 2>&1; }

install_packages() {
  [ "$(id -u)" = 0 ] || return 1
  command -v apt-get >/dev/null || return 1
  say "installing $*"
  apt-get update -qq >&2 || return 1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || return 1
  hash -r
}

start_daemon() {
  say "starting dockerd, log in $LOG"
  setsid dockerd --storage-driver=overlay2 >"$LOG" 2>&1 </dev/null &
  local daemon=$! second
  for second in $(seq 30); do
    if answers; then return 0; fi
    kill -0 "$daemon" 2>/dev/null || break
    sleep 1
  done
  tail -n 5 "$LOG" >&2
  return 1
}

need_engine() {
  if answers; then return 0; fi
  [ "$(id -u)" = 0 ] || refuse "none answers and only root can start one"
  if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    install_packages docker.io iptables || refuse "docker.io could not be installed"
  fi
  start_daemon || refuse "dockerd did not start"
}

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

is_stand_in() { [ "$(docker image inspect -f '{{index .Config.Labels "stand-in"}}' "$1" 2>/dev/null)" = yes ]; }

need_base() {
  if have_image "$BASE" && ! { is_stand_in "$BASE" && ! have_image "$STAND_IN"; }; then return 0; fi
  if docker pull -q "$BASE" >/dev/null 2>&1; then return 0; fi
  BASE=${BASE%@*} # nothing that is made here can have a digest of another
  if have_image "$BASE" && have_image "$STAND_IN"; then return 0; fi
  say "no registry answers: building a stand-in for $BASE (about two minutes)"
  build_stand_ins
}

# The Debian mirror that this machine itself uses; debootstrap's own default where it uses none.
mirror() {
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 == "bookworm" && $1 ~ /debian/ { print $1; exit }'
}

import_tree() { # tree, tag, further changes to the image's settings...
  local tree=$1 tag=$2
  shift 2
  tar -C "$tree" --numeric-owner --exclude=./var/cache/apt/archives/*.deb -c . |
    docker import --change 'LABEL stand-in=yes' --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' "$@" - "$tag" >/dev/null
}

build_stand_ins() {
  command -v debootstrap >/dev/null || install_packages debootstrap || {
    say "debootstrap cannot be installed and no registry answers"
    return 1
  }
  local tree
  tree=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$tree'" EXIT
  # shellcheck disable=SC2046
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$tree" $(mirror) >"$tree.log" 2>&1 ||
    { tail -n 5 "$tree.log" >&2; return 1; }
  rm -f "$tree.log"
  ln -s /usr/bin/python3 "$tree/usr/local/bin/python"
  rm -rf "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/*
  import_tree "$tree" "$BASE"
  add_builder "$tree"
  import_tree "$tree" "$STAND_IN" --change 'ENV PIP_CONFIG_FILE=/etc/pip.conf' \
    --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt'
}

# The builder's extras: a compiler, and what this machine's pip needs to reach its packages. None of it is in the base.
add_builder() {
  local tree=$1
  cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
  chroot "$tree" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends g++' >/dev/null
  rm -rf "$tree"/var/lib/apt/lists/*
  "$PYTHON" "$here/pip_settings.py" "$tree"
}

# What a tag means today, by its digest; the tag itself where a stand-in has none.
resolved() {
  local digest
  digest=$(docker image inspect -f '{{if .RepoDigests}}{{index .RepoDigests 0}}{{end}}' "$BASE" 2>/dev/null) || true
  printf '%s' "${digest:-$BASE}"
}

build_image() {
  local name=${1:-$NAME} base
  base=$(resolved)
  say "building on $base"
  local -a arguments=()
  if is_stand_in "$BASE"; then arguments=(--network host --build-arg "BUILDER=$STAND_IN"); fi
  docker build "${arguments[@]}" --build-arg "BASE=$base" -t "$name" ${BUILD_ARGUMENTS:-} "$root"
}

case ${1:-start} in
  start) need_engine && need_base ;;
  image) need_engine && need_base && build_image "${2:-}" ;;
  *) say "usage: engine.sh start | image [NAME]"; exit 2 ;;
esac
