"""Pictures inside the page: decoded, made small and encoded anew, since an index may hold any bytes."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.evaluation.report.markup import Markup, element
from ae_search.image_file import pixels_to_png, stored_thumbnail

SIDE_PX = 64
MAX_TOTAL_BYTES = 2 * 2**20


def reencoded(data: bytes | None, side_px: int = SIDE_PX) -> bytes | None:
    """Return a small JPEG of a thumbnail.

    Args:
        data: Bytes of a stranger; see `stored_thumbnail`.
        side_px: Longest side of the answer.

    Returns:
        None where there is no picture, or none that can be shown.
    """
    small = stored_thumbnail(data, side_px)
    if small is None:
        return None
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, optimize=True)
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
