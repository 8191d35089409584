#!/bin/sh
# What the image starts: an absolute path or an interpreter runs as it is, anything else is a verb of the command line.
#
# COINSTAC names no user, so its containers start as root. The server needs none of root's rights: where the folders that
# COINSTAC mounts belong to one other user, who may do there all that is needed, it becomes that user, for good.
set -eu

owner() { # of every folder mounted for results, if it is one and not root
  mounted=$(while read -r _ place _; do case "$place" in /output | /output/* | /transfer | /transfer/*) echo "$place" ;; esac
  done < /proc/self/mounts)
  [ -n "$mounted" ] || return 0
  # Word splitting is wanted: the kernel writes blanks in these names as \040.
  # shellcheck disable=SC2086
  owners=$(stat -c %u:%g $mounted 2>/dev/null | sort -u) || return 0
  case "$owners" in *"
"* | 0:*) ;; *) echo "$owners" ;; esac
}

become() { # USER:GROUP PROGRAM...; no more groups, no capabilities, no way back
  who=$1
  shift
  exec setpriv --reuid "${who%:*}" --regid "${who#*:}" --clear-groups --bounding-set -all --inh-caps -all --no-new-privs "$@"
}

hindered() { # USER:GROUP: is there anything in the mounts that this user could not use?
  found=$( (become "$1" sh -c 'find /input ! -readable -print -quit
    find /output /transfer -type d ! -writable -print -quit') 2>&1) || true
  [ -n "$found" ]
}

case "${1:-}" in
  *python*)
    case "${2:-}" in
      */computation/entry.py)
        if [ "$(id -u)" = 0 ]; then
          who=$(owner)
          if [ -n "$who" ] && ! hindered "$who"; then become "$who" "$@"; fi
        fi
        ;;
    esac
    exec "$@"
    ;;
  /* | sh | bash) exec "$@" ;;
  *) exec /opt/venv/bin/python /opt/application/bin/coinstac-meshnet "$@" ;;
esac
