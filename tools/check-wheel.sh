#!/usr/bin/env bash
# Build the wheel, install it alone into a fresh environment, and use its query side: no TensorFlow may be needed or loaded.
# usage: tools/check-wheel.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
# Packages found there would pass for installed.
unset PYTHONPATH
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$python" -m venv "$place/build"
"$place/build/bin/pip" install -q --disable-pip-version-check build
rm -rf dist
"$place/build/bin/python" -m build --outdir dist . >"$place/build.log" 2>&1 || { cat "$place/build.log" >&2; exit 1; }

"$python" -m venv "$place/query"
"$place/query/bin/pip" install -q --disable-pip-version-check dist/*.whl
cd "$place"
query/bin/ae-search --version
query/bin/ae-search --help >/dev/null
query/bin/python - <<'CHECK'
import importlib.util
import sys
import tempfile

import numpy as np

import ae_search
from ae_search.contract import ModelCard
from ae_search.index import IndexBuilder, LatentIndex

for absent in ("tensorflow", "keras", "tensorflow_serving"):
    assert importlib.util.find_spec(absent) is None, f"the base install brings {absent}"

card = ModelCard("m", 1, "ab" * 32, (28, 28, 1), latent_dim=8)
latents = np.random.default_rng(1).normal(size=(100, 8)).astype(np.float32)
with tempfile.TemporaryDirectory() as place:
    with IndexBuilder(place + "/index", card) as builder:
        builder.add(latents, [f"key {i}" for i in range(100)])
    (found,) = LatentIndex.open(place + "/index").search(latents[7], k=1)
    assert found[0].key == "key 7", found
print(f"the wheel of ae-search {ae_search.__version__} searches without TensorFlow")
CHECK
