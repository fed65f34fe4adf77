#!/bin/sh
# Write the text of --ssl_config_file to standard output.
# usage: make-ssl-config.sh SERVER_KEY.pem SERVER_CHAIN.pem [CLIENT_CA.pem] >ssl.config
set -eu
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "usage: $0 SERVER_KEY.pem SERVER_CHAIN.pem [CLIENT_CA.pem] >ssl.config" >&2
    exit 2
fi
for file in "$@"; do
    grep -q -e '-----BEGIN ' -- "$file" || { echo "$0: $file is not a PEM file" >&2; exit 1; }
done

# A PEM text as one quoted string.
quoted() { awk '{ sub(/\r$/, ""); printf "%s\\n", $0 }' "$1"; }

printf 'server_key: "%s"\n' "$(quoted "$1")"
printf 'server_cert: "%s"\n' "$(quoted "$2")"
if [ $# -eq 3 ]; then
    printf 'custom_ca: "%s"\nclient_verify: true\n' "$(quoted "$3")"
fi
