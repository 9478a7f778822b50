#!/usr/bin/env bash
# Installs the Debian packages that running, compiling the kernel side, testing or measuring needs. What is there already is left alone.
set -euo pipefail
case "${1:-}" in
  run) wanted=(libbpf1 libgomp1 python3-venv curl) ;;
  compile) wanted=(clang-19 libbpf-dev) ;;
  test) wanted=(chromium chromium-driver gcc libc6-dev iproute2 openssl shellcheck systemd) ;;
  # Peers. bcc compiles on the host and wants kernel headers: of this kernel where there are any, else Debian's own.
  bench)
    wanted=(strace bpftrace python3-bpfcc)
    headers="linux-headers-$(uname -r)"
    [ -e "/lib/modules/$(uname -r)/build" ] || { apt-cache show "$headers" >/dev/null 2>&1 || headers=linux-headers-amd64; wanted+=("$headers"); }
    ;;
  *) echo "usage: $0 run|compile|test|bench" >&2; exit 2 ;;
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
