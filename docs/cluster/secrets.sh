#!/bin/sh
# Makes the secrets of the example, each in a file: passwords, and a certificate for trying out, which
# is to be replaced by a real one. Where the directory is there already, nothing happens.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir "${1:-secrets}"
cd "${1:-secrets}"

postgres=$(openssl rand -hex 24)
printf %s "$postgres" > postgres_password
printf 'postgresql://gatekeeper:%s@postgres:5432/gatekeeper' "$postgres" > store_url

redis=$(openssl rand -hex 24)
printf 'redis://gatekeeper:%s@redis:6379/0' "$redis" > cache_url
cat > redis_users <<END
user default on nopass -@all +ping
user gatekeeper on #$(printf %s "$redis" | sha256sum | cut -d ' ' -f 1) ~gatekeeper:* +@read +@write +@scripting +@connection +time
END

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj /CN=localhost -addext 'subjectAltName = DNS:localhost, IP:127.0.0.1' \
    -keyout certificate.pem.key -out certificate.pem 2> /dev/null

# Each container sees the files that it is given, under a user of its own, who is somebody else here.
# On this machine it is the directory that keeps others out.
chmod 444 ./*
