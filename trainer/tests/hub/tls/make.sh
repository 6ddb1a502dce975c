#!/usr/bin/env bash
# Makes the certificates beside it, for `localhost` and a hundred years: `ca.pem` signs `server.pem`. What the authority
# signs with is thrown away; `server.key` is the key of a server that tests start, and of nothing else. OpenSSL 3.0.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
touch "$work/index.txt"
cat > "$work/conf" <<END
[ca]
default_ca = one
[one]
database = $work/index.txt
new_certs_dir = $work
default_md = sha256
policy = policy
rand_serial = yes
[policy]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
[server]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost
END
request() { openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1" -out "$work/request" -subj "/CN=$2"; }
sign() {
  openssl ca -batch -notext -config "$work/conf" -startdate 20200101000000Z -enddate 21200101000000Z \
    -keyfile "$work/key" -in "$work/request" "$@"
}
request "$work/key" 'engraft tests'
sign -selfsign -extensions authority -out ca.pem
request server.key localhost
sign -cert ca.pem -extensions server -out server.pem
rm -r "$work"
