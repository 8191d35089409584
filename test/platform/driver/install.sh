#!/usr/bin/env bash
# Install the platform's own packages, in the exact versions of package-lock.json, into the ignored folder .platform/.
# Exit status: 0 done (or done before), 3 no Node.js or npm (said in one loud line), anything else is a failure.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$(cd "$here/../../.." && pwd)/.platform}
# The registration tool's schema; its package's dependencies are not needed, nor does every registry still have them.
SCHEMA=coinstac-common@5.4.0
SCHEMA_INTEGRITY=CO/kqjusKhU+EM5nDlTI8nL1iGPwDG+SHzoqWapoLciaH0Oyzv8/GpCmwjcXo+muntkyeNkwTvTPRSY4Gx27+Q== # SHA-512

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  printf '\n##### NO NODE.JS: the real COINSTAC pipeline needs Node.js 18 or later with npm; it was not run. #####\n\n' >&2
  exit 3
fi

mkdir -p "$target"
if [ -e "$target/.done" ] && cmp -s "$here/package-lock.json" "$target/package-lock.json"; then exit 0; fi
rm -f "$target/.done"
cp "$here/package.json" "$here/package-lock.json" "$target"
cd "$target"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
archive=$(npm pack --silent "$SCHEMA")
found=$(node -p 'require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64")' "$archive")
if [ "$found" != "$SCHEMA_INTEGRITY" ]; then
  printf 'the archive of %s is not the one that was read: its SHA-512 is %s\n' "$SCHEMA" "$found" >&2
  exit 1
fi
mkdir -p coinstac-common
tar -xzf "$archive" -C coinstac-common --strip-components=1
rm -f "$archive"
touch .done
