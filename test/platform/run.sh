#!/usr/bin/env bash
# Every test on COINSTAC's own code: with processes first, then with real Docker where an engine can be had.
#
# Exit status: 0 all that could be run has passed, 3 no Node.js, anything else is a failure.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export PYTHON=${PYTHON:-python3}

"$here/driver/install.sh"
MESHNET_PLATFORM=process "$PYTHON" -m pytest test/platform

status=0
"$here/engine.sh" image || status=$?
if [ "$status" = 3 ]; then exit 0; fi # said loudly by engine.sh
if [ "$status" != 0 ]; then exit "$status"; fi
for kind in echo idle; do
  docker build -q -t "coinstac-meshnet-$kind" "$here/$kind" >/dev/null
done
MESHNET_PLATFORM=docker "$PYTHON" -m pytest test/platform test/simulator/test_docker.py
