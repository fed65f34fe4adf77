"""Pictures inside the page: decoded, made small and encoded anew, since an index may hold any bytes."""

import base64
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ae_search.errors import ImageError
from ae_search.evaluation.report.markup import Markup, element
from ae_search.image_file import check_image, pixels_to_png, thumbnail

SIDE_PX = 64
MAX_TOTAL_BYTES = 2 * 2**20

_MAX_PICTURE_BYTES = 4 * 2**20
_MAX_MEGAPIXELS = 16


def reencoded(data: bytes | None, side_px: int = SIDE_PX) -> bytes | None:
    """Return a small JPEG of an image file.

    Args:
        data: Bytes of a stranger, up to 4 MiB and 16 megapixels.
        side_px: Longest side of the answer, up to 96 px.

    Returns:
        None where there is no picture, or none that can be shown.
    """
    if not data or len(data) > _MAX_PICTURE_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_image(data, "picture", max_megapixels=_MAX_MEGAPIXELS)
            small = Image.open(io.BytesIO(thumbnail(data, "picture")), formats=("JPEG",))
            small.thumbnail((side_px, side_px))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=85, optimize=True)
    except ImageError:
        return None
    except Exception:  # decoders raise anything on bytes that were made to hurt them
        return None
    return buffer.getvalue()


def pixels_file(pixels: npt.NDArray[Any]) -> bytes:
    """Return brightness `[h, w, c]` in [0, 1] as a PNG file; what is out of range is clipped, NaN is black."""
    return pixels_to_png((np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8))


@dataclass
class Album:
    """The pictures of one page, and how many bytes they may still have.

    Attributes:
        left: Bytes that further pictures may have.
        left_out: Pictures that were there but found no room.
    """

    left: int = MAX_TOTAL_BYTES
    left_out: int = 0

    def uri(self, data: bytes | None, side_px: int = SIDE_PX) -> str | None:
        """Return a `data:` URI of a picture, None where it cannot be shown or has no room any more."""
        small = reencoded(data, side_px) if self.left > 0 else None
        if small is None:
            self.left_out += bool(data) and self.left <= 0
            return None
        uri = "data:image/jpeg;base64," + base64.b64encode(small).decode("ascii")
        self.left -= len(uri)
        return uri

    def image(self, data: bytes | None, alt: str) -> Markup:
        """Return an `img`, or an empty frame that says that there is no picture."""
        uri = self.uri(data)
        if uri is None:
            return element("span", "no picture", cls="nothing", attributes={"role": "img", "aria-label": alt})
        return element("img", attributes={"src": uri, "alt": alt})
