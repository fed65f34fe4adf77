"""The nine ways to alter an image that a strict reverse search has to see through."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from ae_search.views import Pixels

CROP = 0.85
SHIFT = 1 / 14
ROTATION_DEGREES = 10
BRIGHTNESS = 0.7
NOISE = 20.0
JPEG_QUALITY = 30
HOLE = 1 / 4

Alteration = Callable[[Pixels, np.random.Generator], Pixels]


def altered(images: Pixels, name: str, *, seed: int, first: int = 0) -> Pixels:
    """Alter images, each by a generator of its own: what it becomes depends on its number and the seed alone.

    Args:
        images: uint8 `[n, h, w, 1 or 3]`.
        name: One of `ALTERATIONS`.
        seed: At least 0.
        first: Number of the first image, at least 0; the others follow.

    Returns:
        uint8 of the same shape.
    """
    number = list(ALTERATIONS).index(name)
    changed = np.empty_like(images)
    for at, image in enumerate(images):
        changed[at] = ALTERATIONS[name](image, np.random.default_rng([seed, number, first + at]))
    return changed


def crop(image: Pixels, random: np.random.Generator) -> Pixels:
    """Cut out the middle, 85 % of each side, and resize it to the whole, bilinearly."""
    picture = _picture(image)
    width, height = picture.size
    left, top = width * (1 - CROP) / 2, height * (1 - CROP) / 2
    box = (left, top, width - left, height - top)
    return _pixels(picture.resize(picture.size, Image.Resampling.BILINEAR, box=box))


def shift(image: Pixels, random: np.random.Generator) -> Pixels:
    """Move it by a fourteenth of each side, left or right and up or down; black enters."""
    height, width = image.shape[:2]
    down, right = (max(1, round(side * SHIFT)) * int(random.choice([-1, 1])) for side in (height, width))
    moved = np.zeros_like(image)
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return moved


def rotation(image: Pixels, random: np.random.Generator) -> Pixels:
    """Turn it by 10 degrees anticlockwise, bilinearly; black enters at the corners."""
    return _pixels(_picture(image).rotate(ROTATION_DEGREES, Image.Resampling.BILINEAR))


def mirror(image: Pixels, random: np.random.Generator) -> Pixels:
    """Swap left and right."""
    return image[:, ::-1]


def darkening(image: Pixels, random: np.random.Generator) -> Pixels:
    """Multiply all values by 0.7."""
    return (image * BRIGHTNESS + 0.5).astype(np.uint8)


def noise(image: Pixels, random: np.random.Generator) -> Pixels:
    """Add Gaussian noise with a standard deviation of 20 of 255, to each channel by itself."""
    noisy: Pixels = np.clip(image + random.normal(0.0, NOISE, image.shape), 0, 255).astype(np.uint8)
    return noisy


def jpeg(image: Pixels, random: np.random.Generator) -> Pixels:
    """Save it as a JPEG of quality 30."""
    picture, file = _picture(image), io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    with Image.open(file, formats=("JPEG",)) as saved:
        return _pixels(saved.convert(picture.mode))


def hole(image: Pixels, random: np.random.Generator) -> Pixels:
    """Blacken a rectangle of a quarter of each side, anywhere."""
    height, width = image.shape[:2]
    rows, columns = max(1, round(height * HOLE)), max(1, round(width * HOLE))
    top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
    pierced = image.copy()
    pierced[top : top + rows, left : left + columns] = 0
    return pierced


def half_resolution(image: Pixels, random: np.random.Generator) -> Pixels:
    """Halve each side by averaging, and double it again bilinearly."""
    picture = _picture(image)
    small = (max(1, picture.width // 2), max(1, picture.height // 2))
    halved = picture.resize(small, Image.Resampling.BOX)
    return _pixels(halved.resize(picture.size, Image.Resampling.BILINEAR))


ALTERATIONS: dict[str, Alteration] = {
    "crop": crop,
    "shift": shift,
    "rotation": rotation,
    "mirror": mirror,
    "darkening": darkening,
    "noise": noise,
    "jpeg": jpeg,
    "hole": hole,
    "half resolution": half_resolution,
}


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))


def _pixels(picture: Image.Image) -> Pixels:
    """Return `[h, w, 1 or 3]`."""
    pixels = np.asarray(picture)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
