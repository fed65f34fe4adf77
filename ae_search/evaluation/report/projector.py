"""Latents for TensorBoard's Embedding Projector: points in 3-D with their pictures and labels.

FOLDER/
  latents.tsv              one latent a line
  metadata.tsv             label and key of each, under a header
  sprite.png               all pictures in one, row by row
  projector_config.pbtxt   names the other three
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ae_search.contract import Latents
from ae_search.errors import ConfigurationError
from ae_search.evaluation.report.markup import harmless
from ae_search.evaluation.report.pictures import reencoded
from ae_search.evaluation.results import Evaluation
from ae_search.evaluation.shown import LatentSample
from ae_search.files import make_folder, trouble_in_words, write_atomically

__all__ = ["check_free", "write_projector"]

LATENTS = "latents.tsv"
METADATA = "metadata.tsv"
SPRITE = "sprite.png"
CONFIG = "projector_config.pbtxt"
FILES = (LATENTS, METADATA, SPRITE, CONFIG)

# The projector refuses larger ones: 8192 px is the largest texture that it asks a browser for.
MAX_SPRITE_PX = 8192
PICTURE_PX = 64

_NO_LABEL = "(no label)"
_NAME_CHARACTERS = 200


def write_projector(evaluation: Evaluation, folder: Path) -> Path:
    """Write the sample of latents for `tensorboard --logdir FOLDER`; no checkpoint and no event file is needed.

    The first three files can be loaded into the projector on the web too, by "Load" and "Publish".

    Args:
        evaluation: What was found; its latents, at least one of at least 2 floats, are written.
        folder: Where they go; an earlier export there is replaced.

    Returns:
        `folder`.

    Raises:
        ConfigurationError: There is no latent to show, or `folder` holds something else or cannot be written.
    """
    sample = _finite(evaluation.latents)
    if not len(sample.latents) or sample.latents.shape[1] < 2:
        raise ConfigurationError(
            "The Embedding Projector shows at least one latent of at least 2 floats. "
            f"Received: {len(sample.latents)} of {sample.latents.shape[1]}; leave this export out."
        )
    try:
        check_free(folder)
        make_folder(folder, "projector")
        _write(sample, folder, (evaluation.image_shape[1], evaluation.image_shape[0]))
    except OSError as error:
        raise ConfigurationError(f"Cannot write to {folder}: {trouble_in_words(error)}.") from error
    return folder


def _finite(sample: LatentSample) -> LatentSample:
    """Return the sample without latents that no point can stand for."""
    rows = np.flatnonzero(np.isfinite(sample.latents).all(axis=1))
    return LatentSample(
        sample.latents[rows],
        tuple(sample.keys[row] for row in rows),
        tuple(sample.labels[row] for row in rows),
        tuple(sample.pictures[row] for row in rows),
    )


def check_free(folder: Path) -> None:
    """Check that an export may be written into a folder, to tell so before the work and not after it.

    Raises:
        ConfigurationError: It is a file, or holds something else.
    """
    if folder.is_file():
        raise ConfigurationError(f"{folder} is a file; name a folder for the projector.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    others = sorted(names - set(FILES)) or ([] if CONFIG in names else sorted(names))
    if others:
        raise ConfigurationError(f"{folder} holds {others[0]!r} and is no projector export; choose another folder.")


def _write(sample: LatentSample, folder: Path, size: tuple[int, int]) -> None:
    # Without the configuration TensorBoard sees no half-written export.
    (folder / CONFIG).unlink(missing_ok=True)
    cell = _cell(len(sample.latents), size)
    sprite = _sprite(sample.pictures, cell)
    write_atomically(folder / LATENTS, _lines(sample.latents))
    write_atomically(folder / METADATA, _metadata(sample))
    if sprite is None:
        (folder / SPRITE).unlink(missing_ok=True)
    else:
        write_atomically(folder / SPRITE, lambda path: sprite.save(path, "PNG", optimize=True))
    write_atomically(folder / CONFIG, _config(sample.latents.shape, cell if sprite else None))


def _lines(latents: Latents) -> str:
    # Nine digits give back the same float32.
    return "".join("\t".join(f"{value:.9g}" for value in latent) + "\n" for latent in latents.tolist())


def _metadata(sample: LatentSample) -> str:
    rows = [("label", "key")]
    # The projector colours by label, skips blank lines and takes an empty cell for nothing.
    rows += [
        (_cell_text(label or "") or _NO_LABEL, _cell_text(key) or "(blank)")
        for label, key in zip(sample.labels, sample.keys, strict=True)
    ]
    return "".join("\t".join(row) + "\n" for row in rows)


def _cell_text(text: str) -> str:
    """Return a stranger's text without tabs, line ends and other controls."""
    return " ".join(harmless(text[:_NAME_CHARACTERS]).split())


def _cell(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height in px of one picture, in the shape of the model's images."""
    side = min(PICTURE_PX, MAX_SPRITE_PX // math.ceil(math.sqrt(count)))
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _sprite(pictures: Sequence[bytes | None], cell: tuple[int, int]) -> Image.Image | None:
    """Return all pictures in a square of cells, row by row; None where there is no picture at all."""
    columns = math.ceil(math.sqrt(len(pictures)))
    sprite = Image.new("RGB", (columns * cell[0], columns * cell[1]))
    found = 0
    for at, data in enumerate(pictures):
        small = reencoded(data, max(cell))
        if small is None:
            continue
        found += 1
        with Image.open(io.BytesIO(small), formats=("JPEG",)) as picture:
            fitted = ImageOps.pad(picture.convert("RGB"), cell)
        sprite.paste(fitted, (at % columns * cell[0], at // columns * cell[1]))
    return sprite if found else None


def _config(shape: tuple[int, ...], cell: tuple[int, int] | None) -> str:
    """Return the text form of TensorBoard's `ProjectorConfig`."""
    lines = ["embeddings {", '  tensor_name: "latents"', f'  tensor_path: "{LATENTS}"']
    lines += [f"  tensor_shape: {size}" for size in shape]
    lines.append(f'  metadata_path: "{METADATA}"')
    if cell is not None:
        sizes = [f"    single_image_dim: {size}" for size in cell]
        lines += ["  sprite {", f'    image_path: "{SPRITE}"', *sizes, "  }"]
    return "\n".join([*lines, "}"]) + "\n"
