"""Images of a source, one after the other, for readers that take files."""

import logging
from collections.abc import Iterable, Iterator

from ae_search.data.sources.source import Source
from ae_search.errors import ConfigurationError, ImageError
from ae_search.image_file import pixels_to_png

log = logging.getLogger(__name__)


def read_files(source: Source, positions: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield position and file of the images at some positions; those that cannot be read are missing.

    Pixels become a PNG, which loses nothing.
    """
    for position in positions:
        try:
            yield position, read_file(source, position)
        except ImageError:
            continue
        except ConfigurationError as error:
            log.error("%s", error)  # whoever reads through tf.data would not see it
            raise


def read_file(source: Source, position: int) -> bytes:
    """Return an image as a file.

    Raises:
        ImageError: It is gone, damaged or too large.
    """
    image = source.read(position)
    return image if isinstance(image, bytes) else pixels_to_png(image)
