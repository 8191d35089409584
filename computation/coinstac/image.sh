#!/bin/sh
# What the image starts: an absolute path or an interpreter runs as it is, anything else is a verb of the command line.
#
# COINSTAC names no user, so its containers start as root. The server needs none of root's rights: where the folders that
# COINSTAC mounts belong to one other user, who may do there all that is needed, it becomes that user, for good.
set -eu

results() { # the folders that are mounted for results, one a line; a blank in a name is \040 there
  while read -r _ place _; do
    case "$place" in /output | /output/* | /transfer | /transfer/*) printf '%s\n' "$place" ;; esac
  done < /proc/self/mounts
}

owner() { # USER:GROUP of all these folders, or nothing if they have several, or root
  owners=$(stat -c %u:%g "$@" 2>/dev/null | sort -u) || return 0
  case "$owners" in 0:* | *[!0-9:]*) ;; *) printf '%s\n' "$owners" ;; esac
}

become() { # USER:GROUP PROGRAM...: no other groups, no capabilities, no way back
  who=$1
  shift
  exec setpriv --reuid "${who%:*}" --regid "${who#*:}" --clear-groups --bounding-set -all --inh-caps -all --no-new-privs "$@"
}

hindered() { # USER:GROUP FOLDER...: is there anything that this user could not read or write?
  who=$1
  shift
  found=$( (become "$who" sh -c 'find /input ! -readable -print -quit; find "$@" -type d ! -writable -print -quit' sh "$@") 2>&1) ||
    return 0
  [ -n "$found" ]
}

case "${1:-} ${2:-}" in
  *python*" "*/computation/entry.py)
    if [ "$(id -u)" = 0 ]; then
      set -f # a name is no pattern
      folders=$(results)
      # One word a folder; a name with a blank is not found as it stands there, and root stays.
      # shellcheck disable=SC2086
      who=$([ -z "$folders" ] || owner $folders)
      # shellcheck disable=SC2086
      if [ -n "$who" ] && ! hindered "$who" $folders; then become "$who" "$@"; fi
    fi
    exec "$@"
    ;;
  /* | python* | "sh "* | "bash "*) exec "$@" ;;
  *) exec /opt/venv/bin/python /opt/application/bin/coinstac-meshnet "$@" ;;
esac
