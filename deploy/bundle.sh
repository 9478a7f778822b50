#!/usr/bin/env bash
# Packs what a host without a way to a package index needs: the install script, the units, Modelward's wheel and the wheels that it
# depends on, for hosts with this machine's architecture.
set -euo pipefail

if [ $# -eq 0 ] || [[ $1 == -* ]]; then
  echo "usage: bundle.sh agent|collector|cli... (in the environment: PYTHON, the program to download with; PYTHON_VERSION, the hosts')" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
mapfile -t found < <(find "$root/build/wheels" -maxdepth 1 -name 'modelward-*.whl' 2>/dev/null | sort -V)
if [ ${#found[@]} -eq 0 ]; then
  echo "bundle.sh: there is no wheel in build/wheels: make it with 'make wheel'" >&2
  exit 1
fi
wheel=${found[-1]}
name=modelward-$(basename "$wheel" | cut -d- -f2)
folder=$root/build/$name
rm -rf "$folder"
mkdir -p "$folder/wheels"
cp "$wheel" "$folder/wheels/"
cp -r "$here/install.sh" "$here/certificates.sh" "$here/systemd" "$folder/"
extras=$(IFS=, && echo "$*")
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --only-binary=:all: --dest "$folder/wheels" \
  ${PYTHON_VERSION:+--python-version "$PYTHON_VERSION"} "${wheel}[$extras]"
tar -C "$root/build" -czf "$root/build/$name.tar.gz" "$name"
echo "made build/$name.tar.gz ($(du -h "$root/build/$name.tar.gz" | cut -f1))"
