#!/usr/bin/env bash
# A small certificate authority for Modelward, made with openssl: enough for a first installation. A company's own does as well:
# the name (CN) in an agent's certificate is its host's, and the collector's holds the name that agents ask for.
set -euo pipefail
umask 077

usage() {
  cat >&2 <<'END'
usage: certificates.sh ca DIR                            make the authority: DIR/ca.pem and DIR/ca.key
       certificates.sh collector DIR NAME [NAME|IP]...   a certificate for the collector, under every name that agents ask for
       certificates.sh agent DIR HOST...                 a certificate for each host
Each certificate lies in DIR/NAME with its key and the authority's certificate: copy that folder to the machine, and give it to
install.sh with --tls. Keep DIR/ca.key where no agent and no collector runs. DAYS=N in the environment: how long they are valid
(default 825, the authority 3650).
END
  exit 2
}

fail() {
  echo "certificates.sh: $*" >&2
  exit 1
}

name_ok() {
  [[ $1 =~ ^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$ ]] ||
    fail "'$1' is no host name: letters, digits, dots and hyphens are wanted, at most 63"
}

quietly() {
  local said
  said=$(openssl "$@" 2>&1) || fail "openssl $1 failed: $said"
}

authority() {
  local folder=$1
  mkdir -p "$folder"
  [ ! -e "$folder/ca.key" ] || fail "$folder/ca.key is there already: another one would make every certificate worthless"
  quietly req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "${DAYS:-3650}" \
    -subj "/CN=Modelward authority $(date -u +%Y-%m-%d)" -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$folder/ca.key" -out "$folder/ca.pem"
  chmod 0644 "$folder/ca.pem"
  echo "made $folder/ca.pem; keep $folder/ca.key safe"
}

# sign FOLDER NAME USAGE SUBJECT-ALT-NAMES
sign() {
  local folder=$1 name=$2 usage=$3 names=$4 out=$1/$2
  [ -f "$folder/ca.key" ] || fail "there is no $folder/ca.key: make it with 'certificates.sh ca $folder'"
  [ ! -e "$out/cert.pem" ] || fail "$out/cert.pem is there already: remove the folder to make a new one"
  mkdir -p "$out"
  quietly req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" -keyout "$out/key.pem" -out "$out/request"
  printf 'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' \
    "$usage" "$names" >"$out/extensions"
  quietly x509 -req -in "$out/request" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -days "${DAYS:-825}" -extfile "$out/extensions" -out "$out/cert.pem"
  rm "$out/request" "$out/extensions"
  cp "$folder/ca.pem" "$out/ca.pem"
  chmod 0644 "$out/cert.pem" "$out/ca.pem"
  echo "made $out (cert.pem, key.pem, ca.pem)"
}

[ $# -ge 2 ] || usage
command -v openssl >/dev/null || fail "openssl is not installed"
what=$1 folder=$2
shift 2
case "$what" in
  ca)
    [ $# -eq 0 ] || usage
    authority "$folder"
    ;;
  collector)
    [ $# -ge 1 ] || usage
    names=
    for name in "$@"; do
      if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then
        [[ $name =~ ^[0-9a-fA-F.:]+$ ]] || fail "'$name' is no address"
        names+=",IP:$name"
      else
        name_ok "$name"
        names+=",DNS:$name"
      fi
    done
    [[ ! $1 =~ [^A-Za-z0-9.:-] ]] || fail "'$1' is no name for a folder"
    sign "$folder" "$1" serverAuth "${names#,}"
    ;;
  agent)
    [ $# -ge 1 ] || usage
    for name in "$@"; do
      name_ok "$name"
      sign "$folder" "$name" clientAuth "DNS:$name"
    done
    ;;
  *) usage ;;
esac
