#!/usr/bin/env bash
# Installs Modelward's agent or collector on a host with systemd, upgrades it, or removes it. Run it again to upgrade: settings and
# data stay as they are. Debian, Ubuntu, and what is like RHEL.
set -euo pipefail
umask 022

usage() {
  cat <<'END'
usage: install.sh agent [--collector HOST:PORT] [--label NAME=VALUE]... [options]
       install.sh collector [options]
       install.sh uninstall agent|collector [--purge] [--dry-run]

options:
  --tls DIR         folder with cert.pem, key.pem and ca.pem (certificates.sh makes it); needed as soon as another host is involved
  --wheel FILE      Modelward's wheel; what it depends on comes from pip's index
  --wheels DIR      folder with Modelward's wheel and all that it depends on: nothing is downloaded
  --python PROGRAM  Python 3.11 or newer to build on (default: the newest that the system has)
  --prefix DIR      where the programs go (default /opt/modelward)
  --no-packages     install no package of the distribution
  --no-start        do not start it, nor at boot
  --dry-run         say what would be done, and do nothing
  --purge           with uninstall: settings, keys and data go as well

Without --wheel and --wheels, a folder 'wheels' beside this script, or build/wheels of the source tree, is looked into.
END
}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

say() { echo "$*"; }

# Every change to the host goes through run or write, so that --dry-run shows them all.
run() {
  if [ -n "$dry" ]; then
    printf 'would run:'
    printf ' %q' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# write FILE MODE GROUP: standard input becomes the file, in one step.
write() {
  if [ -n "$dry" ]; then
    say "would write: $1 ($2)"
    cat >/dev/null
    return
  fi
  local new
  new=$(mktemp "$1.XXXXXX")
  cat >"$new"
  chmod "$2" "$new"
  chgrp "$3" "$new"
  mv "$new" "$1"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:-}
case "$what" in
  agent | collector) shift ;;
  uninstall)
    what=${2:-}
    [ "$what" = agent ] || [ "$what" = collector ] || { usage >&2; exit 2; }
    uninstall=1
    shift 2
    ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

collector='' tls='' wheel='' wheels='' python='' prefix=/opt/modelward
packages=1 start=1 dry='' purge='' uninstall=${uninstall:-}
labels=()
while [ $# -gt 0 ]; do
  case "$1" in
    --collector | --label | --tls | --wheel | --wheels | --python | --prefix)
      [ $# -ge 2 ] || fail "$1 wants a value"
      ;;&
    --collector) collector=$2; shift ;;
    --label) labels+=("$2"); shift ;;
    --tls) tls=$2; shift ;;
    --wheel) wheel=$2; shift ;;
    --wheels) wheels=$2; shift ;;
    --python) python=$2; shift ;;
    --prefix) prefix=$2; shift ;;
    --no-packages) packages='' ;;
    --no-start) start='' ;;
    --dry-run) dry=1 ;;
    --purge) purge=1 ;;
    -h | --help) usage; exit 0 ;;
    *) fail "'$1' is no option; --help names them" ;;
  esac
  shift
done

service=modelward-$what
units=/etc/systemd/system
etc=/etc/modelward
case "$what" in
  agent) state=/var/lib/modelward-agent ;;
  collector) state=/var/lib/modelward ;;
esac
systemd=''
[ ! -d /run/systemd/system ] || systemd=1

check_arguments() {
  [ -n "$dry" ] || [ "$(id -u)" -eq 0 ] || fail "root is needed: run it with sudo, or look at it with --dry-run"
  [[ $prefix =~ ^/[A-Za-z0-9/._-]+$ ]] || fail "--prefix $prefix: an absolute path of letters, digits, '.', '_' and '-' is wanted"
  case "$prefix" in
    /home/* | /root | /root/*) fail "--prefix $prefix: the services cannot see into home folders" ;;
  esac
  [ -z "$wheel" ] || [ -z "$wheels" ] || fail "give --wheel or --wheels, not both"
  if [ "$what" = collector ]; then
    [ -z "$collector${labels[*]-}" ] || fail "--collector and --label belong to the agent"
  fi
  if [ -n "$collector" ]; then
    [[ $collector =~ ^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$ ]] ||
      fail "--collector $collector: HOST:PORT is wanted, such as collector.example:4460"
    [[ $collector =~ ^(127\.|localhost:|\[::1\]) ]] || [ -n "$tls" ] || [ -e "$etc/agent.toml" ] ||
      fail "--collector $collector is another host: give this one's certificate with --tls DIR (certificates.sh makes it)"
  fi
  local label
  for label in ${labels[@]+"${labels[@]}"}; do
    [[ $label =~ ^[a-z][a-z0-9_]{0,31}=[^\"\\[:cntrl:]]{1,63}$ ]] ||
      fail "--label $label: NAME=VALUE is wanted, as in env=prod, without quotes or backslashes"
  done
  local file
  for file in cert.pem key.pem ca.pem; do
    [ -z "$tls" ] || [ -r "$tls/$file" ] || fail "--tls $tls: there is no $file in it"
  done
}

has_libbpf() {
  local folder
  for folder in /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /lib64 /lib; do
    [ ! -e "$folder/libbpf.so.1" ] || return 0
  done
  return 1
}

python_fits() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local name at
  if [ -n "$python" ]; then
    at=$(command -v "$python") || fail "--python $python: there is no such program"
    python_fits "$at" || fail "--python $python: Python 3.11 or newer with its venv module is wanted"
    python=$at
  else
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
      for at in /usr/bin/$name /usr/local/bin/$name; do
        if [ -x "$at" ] && python_fits "$at"; then
          python=$at
          return 0
        fi
      done
    done
    return 1
  fi
  case "$(readlink -f "$python")" in
    /home/* | /root/*) fail "$python lies in a home folder, which the services cannot see: name another with --python" ;;
  esac
}

install_packages() {
  local wanted=() family=''
  # shellcheck disable=SC1091
  family=$(. /etc/os-release 2>/dev/null && echo " ${ID:-} ${ID_LIKE:-} ")
  if [ "$what" = agent ] && ! has_libbpf; then
    case "$family" in
      *\ debian\ * | *\ ubuntu\ *) wanted+=(libbpf1) ;;
      *\ rhel\ * | *\ fedora\ * | *\ centos\ *) wanted+=(libbpf) ;;
      *) fail "libbpf 1.x is missing (libbpf.so.1), and this distribution is not known here: install it and run this again" ;;
    esac
  fi
  if ! find_python; then
    case "$family" in
      *\ debian\ * | *\ ubuntu\ *) wanted+=(python3 python3-venv) ;;
      *\ rhel\ * | *\ fedora\ * | *\ centos\ *) wanted+=(python3.12) ;;
      *) fail "Python 3.11 or newer with its venv module is missing: install it, or name it with --python" ;;
    esac
  fi
  [ ${#wanted[@]} -gt 0 ] || return 0
  [ -n "$packages" ] || fail "these packages are missing: ${wanted[*]}"
  say "installing ${wanted[*]}"
  case "$family" in
    *\ debian\ * | *\ ubuntu\ *)
      run apt-get update -qq
      run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${wanted[@]}"
      ;;
    *) run dnf install -y -q "${wanted[@]}" ;;
  esac
  find_python || [ -n "$dry" ] || fail "this distribution's Python is older than 3.11: install a newer one and name it with --python"
}

find_wheel() {
  local folder found=()
  if [ -n "$wheel" ]; then
    [ -f "$wheel" ] || fail "--wheel $wheel: there is no such file"
    return
  fi
  if [ -n "$wheels" ]; then
    [ -d "$wheels" ] || fail "--wheels $wheels: there is no such folder"
  elif [ -d "$here/wheels" ]; then
    wheels=$here/wheels
  fi
  for folder in ${wheels:-"$here/../build/wheels"}; do
    mapfile -t found < <(find "$folder" -maxdepth 1 -name 'modelward-*.whl' 2>/dev/null | sort -V)
  done
  [ ${#found[@]} -gt 0 ] || fail "no wheel of Modelward${wheels:+ in $wheels}: make it with 'make wheel', or name it with --wheel"
  wheel=${found[-1]}
}

# The programs of one version lie in a folder of their own; 'agent' and 'collector' point to the one in use. So an upgrade that
# fails changes nothing, and the old version's files are there until the new one runs.
install_programs() {
  local release pip=()
  release=$prefix/releases/$what-$(sha256sum "$wheel" | cut -c1-12)
  if [ ! -e "$release/complete" ]; then
    say "installing $(basename "$wheel") into $release"
    run rm -rf "$release"
    run mkdir -p "$prefix/releases"
    run "${python:-python3}" -m venv "$release"
    pip=("$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir)
    [ -z "$wheels" ] || pip+=(--no-index --find-links "$wheels")
    run "${pip[@]}" "${wheel}[$what]"
    run "$release/bin/$service" --version
    run touch "$release/complete"
  fi
  if [ "$(readlink "$prefix/$what" 2>/dev/null)" != "$release" ]; then
    changed=1
    run ln -s "$release" "$prefix/$what.new"
    run mv -T "$prefix/$what.new" "$prefix/$what"
  fi
  run ln -sfn "$prefix/$what/bin/$service" "/usr/local/bin/$service"
  [ "$what" = agent ] || run ln -sfn "$prefix/$what/bin/modelward" /usr/local/bin/modelward
}

remove_old_programs() {
  local release
  for release in "$prefix/releases/$what"-*; do
    [ "$release" = "$(readlink "$prefix/$what")" ] || [ ! -e "$release" ] || run rm -rf "$release"
  done
}

make_user() {
  [ "$what" = collector ] || return 0
  getent passwd modelward >/dev/null ||
    run useradd --system --user-group --home-dir "$state" --no-create-home --shell /usr/sbin/nologin modelward
}

toml_list() {
  local item text=''
  for item in "$@"; do text+=", \"$item\""; done
  echo "[${text#, }]"
}

put_keys() {
  [ -n "$tls" ] || return 0
  run install -m 0644 "$tls/cert.pem" "$etc/$what-cert.pem"
  run install -m 0644 "$tls/ca.pem" "$etc/$what-ca.pem"
  if [ "$what" = agent ]; then
    run install -m 0600 "$tls/key.pem" "$etc/agent-key.pem"
  else
    run install -m 0600 "$tls/key.pem" "$etc/secrets/key.pem"
  fi
  changed=1
}

agent_settings() {
  cat <<END
# Settings of the agent; 'modelward-agent run --help' says them all.
collector = "${collector:-127.0.0.1:4460}"
state = "$state"
label = $(toml_list ${labels[@]+"${labels[@]}"})
END
  [ -z "$tls" ] || cat <<END
tls_ca = "$etc/agent-ca.pem"
tls_cert = "$etc/agent-cert.pem"
tls_key = "$etc/agent-key.pem"
END
}

collector_settings() {
  # systemd's copy of what lies in /etc/modelward/secrets; only this service sees it.
  local secret=/run/credentials/$service.service/secrets_
  cat <<END
# Settings of the collector; 'modelward-collector run --help' says them all.
# Keys and tokens lie in $etc/secrets; the service finds FILE of that folder as ${secret}FILE.
data = "$state"
http_token_file = "${secret}token"
END
  cat <<END
# webhook_url = "https://alerts.example/modelward"
# webhook_secret_file = "${secret}webhook"
END
  [ -z "$tls" ] || cat <<END
listen = "0.0.0.0:4460"
tls_cert = "$etc/collector-cert.pem"
tls_key = "${secret}key.pem"
tls_client_ca = "$etc/collector-ca.pem"
http = "0.0.0.0:4461"
http_tls_cert = "$etc/collector-cert.pem"
http_tls_key = "${secret}key.pem"
END
}

install_settings() {
  local file=$etc/$what.toml group=root mode=0600
  run mkdir -p "$etc"
  if [ "$what" = collector ]; then
    group=modelward mode=0640
    run install -d -m 0700 "$etc/secrets"
    [ -e "$etc/secrets/token" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' | write "$etc/secrets/token" 0600 root
  fi
  put_keys
  if [ -e "$file" ]; then
    say "$file is there already and stays as it is"
  else
    "${what}_settings" | write "$file" "$mode" "$group"
  fi
}

install_unit() {
  local unit=$units/$service.service text
  text=$(sed "s|/opt/modelward/|$prefix/|g" "$here/systemd/$service.service")
  [ -e "$unit" ] && [ "$text" = "$(cat "$unit")" ] && return
  changed=1
  run mkdir -p "$units"
  echo "$text" | write "$unit" 0644 root
}

start_service() {
  if [ -z "$systemd" ]; then
    say "systemd does not run here: $service is installed and not started"
    return
  fi
  run systemctl daemon-reload
  if [ -z "$start" ]; then
    say "$service is not started: 'systemctl enable --now $service' does it"
    return
  fi
  run systemctl enable --quiet "$service"
  if [ -n "$changed" ]; then
    run systemctl restart "$service" || failed_start
  else
    run systemctl start "$service" || failed_start
  fi
  [ -n "$dry" ] || say "$service runs"
}

failed_start() {
  journalctl --no-pager --output=cat --lines=10 --unit "$service" >&2 || true
  fail "$service did not start; 'journalctl -u $service' says more"
}

next_steps() {
  [ -z "$dry" ] || return 0
  if [ "$what" = agent ]; then
    say "next: 'modelward-agent check' shows what is watched on this host; settings are in $etc/agent.toml"
  else
    say "next: open $(grep -q '^http_tls_cert' "$etc/collector.toml" && echo https || echo http)://$(hostname):4461/ with the token"
    say "      in $etc/secrets/token; settings are in $etc/collector.toml"
  fi
}

remove() {
  local other
  [ -n "$dry" ] || [ "$(id -u)" -eq 0 ] || fail "root is needed: run it with sudo, or look at it with --dry-run"
  if [ -n "$systemd" ] && [ -e "$units/$service.service" ]; then
    run systemctl disable --quiet --now "$service" || true
  fi
  if [ "$what" = agent ] && [ -x "$prefix/agent/bin/modelward-agent" ]; then
    # Hooks that a stopped agent left, and the mounts that it made.
    if [ -n "$purge" ]; then
      run "$prefix/agent/bin/modelward-agent" uninstall --state "$state"
    else
      run "$prefix/agent/bin/modelward-agent" uninstall --state "$state" --keep-state
    fi
  fi
  run rm -f "$units/$service.service" "/usr/local/bin/$service"
  [ "$what" = agent ] || run rm -f /usr/local/bin/modelward
  run rm -rf "$prefix/$what" "$prefix/releases/$what"-*
  [ -z "$systemd" ] || run systemctl daemon-reload
  if [ -n "$purge" ]; then
    run rm -rf "$state" "$etc/$what.toml" "$etc/$what-cert.pem" "$etc/$what-ca.pem"
    if [ "$what" = agent ]; then
      run rm -f "$etc/agent-key.pem"
    else
      run rm -rf "$etc/secrets"
      ! getent passwd modelward >/dev/null || run userdel modelward
    fi
  else
    say "kept: $etc and $state (--purge removes them)"
  fi
  for other in "$prefix/releases" "$prefix" "$etc"; do
    if [ -d "$other" ]; then run rmdir --ignore-fail-on-non-empty "$other"; fi
  done
  [ -n "$dry" ] || say "$service is removed"
}

if [ -n "$uninstall" ]; then
  remove
  exit 0
fi
changed=''
check_arguments
find_wheel
install_packages
install_programs
make_user
install_settings
install_unit
start_service
remove_old_programs
next_steps
