"""Image files as strangers send them: which are accepted, how they are checked, how thumbnails are made."""

from ae_search.image_file.decoder_words import decoder_words
from ae_search.image_file.head import MAX_JPEG_MEGAPIXELS, MAX_MEGAPIXELS, ImageHead, read_head
from ae_search.image_file.pixels import (
    check_pixels,
    image_pixels,
    pixels_to_png,
    small_picture,
    stored_thumbnail,
    thumbnail,
)
from ae_search.image_file.reading import MAX_FILE_MIB, SUFFIXES, check_image, decoded_bytes, read_image_file

__all__ = [
    "ImageHead",
    "MAX_FILE_MIB",
    "MAX_JPEG_MEGAPIXELS",
    "MAX_MEGAPIXELS",
    "SUFFIXES",
    "check_image",
    "check_pixels",
    "decoded_bytes",
    "decoder_words",
    "image_pixels",
    "pixels_to_png",
    "read_head",
    "read_image_file",
    "small_picture",
    "stored_thumbnail",
    "thumbnail",
]
