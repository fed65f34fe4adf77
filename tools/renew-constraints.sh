#!/bin/sh
# Choose the pins of constraints.txt anew: the newest releases that setup.cfg allows, on every Python that it allows.
# usage: tools/renew-constraints.sh PYTHON
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Not in .venv: pins that no longer fit setup.cfg would keep that from being made.
"${1:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install -q --disable-pip-version-check uv

pins() {
	"$scratch/venv/bin/uv" pip compile -q --universal --python-version 3.11 --no-header --no-annotate \
		setup.cfg --extra dev --extra bench --extra fuzz --extra docs --extra coverage --extra milvus-server "$@"
}
pins tools/planned-extras.txt -o "$scratch/with-planned.txt"
pins -c "$scratch/with-planned.txt" -o "$scratch/pins.txt"
{
	echo '# Releases that the tests and the containers install: pip install -c constraints.txt ...'
	echo '# Written by `make constraints`; what is allowed stands in setup.cfg.'
	cat "$scratch/pins.txt"
} >constraints.txt
