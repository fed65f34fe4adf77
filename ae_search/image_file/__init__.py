"""Image files as strangers send them: which are accepted, how they are checked, how thumbnails are made."""

from ae_search.image_file.converting import for_graph, may_be_converted
from ae_search.image_file.decoder_words import decoder_words
from ae_search.image_file.head import (
    MAX_JPEG_MEGAPIXELS,
    MAX_MEGAPIXELS,
    ImageHead,
    graph_decodes,
    read_head,
    truncated,
)
from ae_search.image_file.opening import MAX_FILE_MIB
from ae_search.image_file.pixels import (
    check_pixels,
    image_pixels,
    pixels_to_png,
    small_picture,
    stored_thumbnail,
    thumbnail,
)
from ae_search.image_file.plain import PLAIN_SHAPE, is_plain
from ae_search.image_file.reading import (
    SUFFIXES,
    TRUNCATED,
    bytes_for_graph,
    check_image,
    decoded_bytes,
    file_bytes,
    read_image_file,
)
from ae_search.image_file.regions import region_pixels

__all__ = [
    "ImageHead",
    "MAX_FILE_MIB",
    "MAX_JPEG_MEGAPIXELS",
    "MAX_MEGAPIXELS",
    "PLAIN_SHAPE",
    "SUFFIXES",
    "TRUNCATED",
    "bytes_for_graph",
    "check_image",
    "check_pixels",
    "decoded_bytes",
    "decoder_words",
    "file_bytes",
    "for_graph",
    "graph_decodes",
    "image_pixels",
    "is_plain",
    "may_be_converted",
    "pixels_to_png",
    "read_head",
    "read_image_file",
    "region_pixels",
    "small_picture",
    "stored_thumbnail",
    "thumbnail",
    "truncated",
]
