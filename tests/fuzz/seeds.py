"""Writes the kept corpus: a few small inputs for each target that get far into it; `python tests/fuzz/seeds.py`."""

import gzip
import io
import json
import struct
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from build_options import build_options
from fuzzed_parsers import CARD, ROWS
from PIL import Image

from ae_search.client import wire
from ae_search.index import IndexBuilder
from ae_search.index.latent_index import LatentIndex

CORPUS = Path(__file__).parent / "corpus"


def index_seeds(folder: Path, metric: str) -> dict[str, bytes]:
    """Return the files of a small index, and what it exports."""
    rows = np.random.default_rng(1).normal(size=(12, CARD.latent_dim)).astype(np.float32)
    with IndexBuilder(folder / metric, replace(CARD, metric=metric), build_options(n_trees=2, jobs=1)) as builder:
        builder.add(rows, [f"k{at}" for at in range(12)], ["l", None] * 6, metadata=[{"n": 1}, None, None] * 4)
    with LatentIndex.open(folder / metric) as index:
        index.export(folder / f"{metric}.parquet")
    (generation,) = (folder / metric).glob("generation-*")
    head = bytes([11, 1, CARD.latent_dim - 1, 0 if metric == "angular" else 255])
    return {
        "manifest": (generation / "manifest.json").read_bytes(),
        "current": (folder / metric / "CURRENT").read_bytes(),
        "names": bytes([12]) + (generation / "names.bin").read_bytes(),
        "forest": head + (generation / "forest.ann").read_bytes(),
        "parquet": (folder / f"{metric}.parquet").read_bytes(),
    }


def answer_seeds() -> dict[str, bytes]:
    """Return a good answer of each kind."""
    latents, card = wire.PredictResponse(), wire.PredictResponse()
    latents.model_spec.version.value = card.model_spec.version.value = CARD.version
    tensor = latents.outputs["latents"]
    tensor.dtype = wire.DT_FLOAT
    for size in (ROWS, CARD.latent_dim):
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend([0.5] * (ROWS * CARD.latent_dim))
    card.outputs["model_card"].dtype = wire.DT_STRING
    card.outputs["model_card"].string_val.append(CARD.to_json().encode())
    return {"latents": latents.SerializeToString(), "card": card.SerializeToString()}


def image_seeds() -> dict[str, bytes]:
    """Return an image of each format."""
    seeds = {}
    for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
        buffer = io.BytesIO()
        Image.new("RGB", (3, 2), "red").save(buffer, form)
        seeds[form.lower()] = buffer.getvalue()
    return seeds


def where_seeds() -> dict[str, bytes]:
    """Return filters of every kind."""
    filters = {
        "equal": {"label": "b", "n": 1, "t": None, "u": True},
        "ranges": {"n": {"gte": 0, "lt": 2.5}, "key": {"gt": "a", "lte": "b"}},
        "several": {"n": {"in": [1, "x", None, False]}},
    }
    return {name: json.dumps(value).encode() for name, value in filters.items()}


def main() -> None:
    """Write all of them."""
    seeds: dict[str, dict[str, bytes]] = {"answer": answer_seeds(), "image": image_seeds(), "where": where_seeds()}
    with tempfile.TemporaryDirectory() as folder:
        for metric in ("angular", "euclidean"):
            for target, content in index_seeds(Path(folder), metric).items():
                seeds.setdefault(target, {})[metric] = content
    seeds["card"] = {"card": json.dumps(asdict(CARD)).encode()}
    seeds["idx"] = {
        "labels": struct.pack(">II", 0x801, 3) + b"\1\2\3",
        "images": struct.pack(">IIII", 0x803, 2, 2, 2) + bytes(range(8)),
    }
    packed = gzip.compress(seeds["idx"]["images"], mtime=0)
    seeds["idx"] |= {"packed": packed, "damaged": packed[:10] + b"\xff" + packed[11:]}
    for target, contents in seeds.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
