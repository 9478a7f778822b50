#!/usr/bin/env bash
# Installs the Debian packages that running, compiling the kernel side, or testing needs. What is there already is left alone.
set -euo pipefail
case "${1:-}" in
  run) wanted=(libbpf1 libgomp1 python3-venv curl) ;;
  compile) wanted=(clang-19 libbpf-dev) ;;
  test) wanted=(chromium chromium-driver gcc libc6-dev iproute2 openssl shellcheck systemd) ;;
  *) echo "usage: $0 run|compile|test" >&2; exit 2 ;;
esac
missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "$0: these Debian packages are missing and need root to install: ${missing[*]}" >&2
  exit 1
fi
echo "installing Debian packages: ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
