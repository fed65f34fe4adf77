"""How well `index duplicates` tells true copies from near shots of one scene.

Photographs of a folder are taken in bursts: the same shelf from a step further away. Altered copies of some of them
are put among them, one each, in the everyday ways in turn. A pair of items that is listed together is right if one is
a copy of the other.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.evaluation.measures.copy_alterations import EVERYDAY, altered
from ae_search.image_file import pixels_to_png
from bench import report
from bench.progress import progress

Pixels = npt.NDArray[np.uint8]

SHAPE = (224, 224, 3)
SEED = 0
# How many of 256 bits may differ in two hashes of the same image, as PDQ's authors advise.
PDQ_BITS = 31
SIMILARITIES = (0.99, 0.95)
# Photographs of one kind whose numbers lie so close were mostly taken of one scene.
_BURST = 3
_NUMBERED = re.compile(r"(.*?)(\d+)\.\w+")


def measured_duplicates(exports: Mapping[str, Path], count: int) -> list[dict[str, Any]]:
    """Measure PDQ, and the duplicates that an index of each export lists.

    Args:
        exports: Model base paths, by the name of their rows.
        count: Photographs of which there is a copy.
    """
    from ae_search.data import open_source
    from bench.pictures import photographs_folder, photographs_of

    pixels, source = photographs_of(SHAPE), open_source(str(photographs_folder()))
    keys = [source.key(at) for at in range(len(source))]
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(pixels))[:count])
    copies = {f"copies/{keys[at]}.png": (int(at), _copy(pixels[at], turn)) for turn, at in enumerate(chosen)}
    original = {key: at for at, key in enumerate(keys)} | {key: at for key, (at, _) in copies.items()}
    progress("duplicates by PDQ")
    rows = [_judged("PDQ, 31 of 256 bits", _by_pdq(pixels, keys, copies), original, keys)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "all")
        shutil.copytree(photographs_folder(), root)
        for key, (_, copy) in copies.items():
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pixels_to_png(copy))
        for name, base in exports.items():
            progress(f"duplicates by {name}")
            rows += _by_index(name, base, root, Path(folder, "index"), original, keys)
    return rows


def duplicates_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures as a table."""
    heads = ["", "copies with their original", "pairs listed", "of these copies", "near shots", "others"]
    cells = [
        [row["name"], f"{row['found']:.3f}", str(row["pairs"]), f"{row['precision']:.3f}"]
        + [str(row[kind]) for kind in ("near shots", "others")]
        for row in rows
    ]
    return report.table(heads, cells)


def _copy(pixels: Pixels, turn: int) -> Pixels:
    way = list(EVERYDAY)[turn % len(EVERYDAY)]
    copy: Pixels = altered(pixels[np.newaxis], way, seed=SEED, first=turn)[0]
    return copy


def _by_index(
    name: str, base: Path, root: Path, place: Path, original: Mapping[str, int], keys: Sequence[str]
) -> Iterator[dict[str, Any]]:
    from ae_search import LatentIndex
    from ae_search.data import open_source
    from ae_search.index import BuildOptions
    from ae_search.indexing import index_source
    from ae_search.model_server import LocalEncoder

    index_source(open_source(str(root)), LocalEncoder(base), place, BuildOptions(replace=True))
    with LatentIndex.open(place) as index:
        for label, similarity in (("", None), *((f", similarity {one}", one) for one in SIMILARITIES)):
            groups = [group.keys for group in index.duplicates(similarity)]
            yield _judged(name + label, groups, original, keys)


def _by_pdq(pixels: Pixels, keys: Sequence[str], copies: Mapping[str, tuple[int, Pixels]]) -> list[list[str]]:
    import pdqhash
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    names = [*keys, *copies]
    images = [*pixels, *(copy for _, copy in copies.values())]
    bits = np.stack([pdqhash.compute(image)[0] for image in images]).astype(np.int32)
    differ = bits @ (1 - bits).T
    _, group_of = connected_components(csr_array(differ + differ.T <= PDQ_BITS), directed=False)
    groups: dict[int, list[str]] = {}
    for key, group in zip(names, group_of.tolist(), strict=True):
        groups.setdefault(group, []).append(key)
    return [group for group in groups.values() if len(group) > 1]


def _judged(
    name: str, groups: Sequence[Sequence[str]], original: Mapping[str, int], keys: Sequence[str]
) -> dict[str, Any]:
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    wrong = [(original[one], original[other]) for one, other in pairs if original[one] != original[other]]
    near = sum(_near(keys[one], keys[other]) for one, other in wrong)
    copies = len(original) - len(keys)
    found = {key for pair in pairs for key in pair if original[pair[0]] == original[pair[1]]} - set(keys)
    return {
        "name": name,
        "found": len(found) / copies,
        "pairs": len(pairs),
        "precision": 1 - len(wrong) / max(1, len(pairs)),
        "near shots": near,
        "others": len(wrong) - near,
    }


def _near(one: str, other: str) -> bool:
    """Tell whether two photographs are of one kind and split, and were numbered one soon after the other."""
    first, second = _NUMBERED.fullmatch(one), _NUMBERED.fullmatch(other)
    assert first is not None and second is not None, (one, other)
    return first[1] == second[1] and abs(int(first[2]) - int(second[2])) <= _BURST
