"""The ways to alter an image that a strict reverse search has to see through: nine everyday ones and eleven harder."""

import io
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from ae_search.contract import Fit
from ae_search.image_file.framing import framed
from ae_search.views import Pixels

CROP = 0.85
SHIFT = 1 / 14
ROTATION_DEGREES = 10
BRIGHTNESS = 0.7
NOISE = 20.0
JPEG_QUALITY = 30
HOLE = 1 / 4
BORDER_WIDTH, BORDER_HEIGHT = 1.5, 1.3
TEXT = "FOR SALE"
# Height of the letters, as a share of the image's.
LETTERS = 1 / 6
SATURATION = 2.0
CONTRAST = 1.6
LOW_JPEG_QUALITY = 8
THUMBNAIL_PX = 64
SQUEEZE = 0.75

Alteration = Callable[[Pixels, np.random.Generator], Pixels]
AlterationSet = Literal["everyday", "hard", "all"]


def altered(images: Pixels, name: str, *, seed: int, first: int = 0, fit: Fit = "crop") -> Pixels:
    """Alter images, each by a generator of its own: what it becomes depends on its number and the seed alone.

    Args:
        images: uint8 `[n, h, w, 1 or 3]`.
        name: One of `ALTERATIONS`.
        seed: At least 0.
        first: Number of the first image, at least 0; the others follow.
        fit: How a model brings what has another size by then back to its shape; see `image_file.framing`.

    Returns:
        uint8 of the same shape.
    """
    number = list(ALTERATIONS).index(name)
    height, width = images.shape[1:3]
    changed = np.empty_like(images)
    for at, image in enumerate(images):
        copy = ALTERATIONS[name](image, np.random.default_rng([seed, number, first + at]))
        same = copy.shape == image.shape
        changed[at] = copy if same else _pixels(framed(_picture(copy), (width, height), fit))
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


def jpeg(image: Pixels, random: np.random.Generator, quality: int = JPEG_QUALITY) -> Pixels:
    """Save it as a JPEG, of quality 30 unless given."""
    picture, file = _picture(image), io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
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


def part(image: Pixels, random: np.random.Generator, share: float) -> Pixels:
    """Cut out a share of each side, anywhere."""
    height, width = image.shape[:2]
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
    return image[top : top + rows, left : left + columns]


def border(image: Pixels, random: np.random.Generator) -> Pixels:
    """Put it into the middle of a white sheet, 1.5 times as wide and 1.3 times as high."""
    height, width, channels = image.shape
    rows, columns = round(height * BORDER_HEIGHT), round(width * BORDER_WIDTH)
    sheet = np.full((rows, columns, channels), 255, np.uint8)
    top, left = (rows - height) // 2, (columns - width) // 2
    sheet[top : top + height, left : left + width] = image
    return sheet


def text(image: Pixels, random: np.random.Generator) -> Pixels:
    """Write FOR SALE over it in red, anywhere."""
    height, width, channels = image.shape
    picture = _picture(image).convert("RGB")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=max(1.0, height * LETTERS))
    left, top, right, bottom = draw.textbbox((0, 0), TEXT, font=font)
    free = (max(0.0, width - (right - left)), max(0.0, height - (bottom - top)))
    across, down = (float(random.uniform(0, room)) for room in free)
    draw.text((across - left, down - top), TEXT, fill=(255, 0, 0), font=font)
    return _pixels(picture.convert("L" if channels == 1 else "RGB"))


def grey(image: Pixels, random: np.random.Generator) -> Pixels:
    """Take the colours out; a grey image stays as it is."""
    picture = _picture(image)
    return _pixels(picture.convert("L").convert(picture.mode))


def quarter_turn(image: Pixels, random: np.random.Generator) -> Pixels:
    """Turn it by 90 degrees anticlockwise."""
    return np.rot90(image)


def saturation(image: Pixels, random: np.random.Generator) -> Pixels:
    """Make colours twice as strong; a grey image stays as it is."""
    return _pixels(ImageEnhance.Color(_picture(image)).enhance(SATURATION))


def contrast(image: Pixels, random: np.random.Generator) -> Pixels:
    """Make differences from the mean brightness 1.6 times as large."""
    return _pixels(ImageEnhance.Contrast(_picture(image)).enhance(CONTRAST))


def thumbnail(image: Pixels, random: np.random.Generator) -> Pixels:
    """Resize it to 64 x 64 px, bilinearly with antialiasing."""
    return _pixels(_picture(image).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BILINEAR))


def squeeze(image: Pixels, random: np.random.Generator) -> Pixels:
    """Bring its height to 75 %, and leave its width as it is."""
    height, width = image.shape[:2]
    return _pixels(_picture(image).resize((width, max(1, round(height * SQUEEZE))), Image.Resampling.BILINEAR))


EVERYDAY: dict[str, Alteration] = {
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
HARD: dict[str, Alteration] = {
    "half cut out": partial(part, share=0.5),
    "0.7 cut out": partial(part, share=0.7),
    "white border": border,
    "red text": text,
    "grey": grey,
    "quarter turn": quarter_turn,
    "saturation": saturation,
    "contrast": contrast,
    "jpeg of quality 8": partial(jpeg, quality=LOW_JPEG_QUALITY),
    "64 x 64 px": thumbnail,
    "height x 0.75": squeeze,
}
ALTERATIONS: dict[str, Alteration] = EVERYDAY | HARD
ALTERATION_SETS: dict[AlterationSet, dict[str, Alteration]] = {
    "everyday": EVERYDAY,
    "hard": HARD,
    "all": ALTERATIONS,
}


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))


def _pixels(picture: Image.Image) -> Pixels:
    """Return `[h, w, 1 or 3]`."""
    pixels = np.asarray(picture)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
