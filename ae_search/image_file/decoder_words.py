"""What TensorFlow's decoders say of an image, in words: the one place that knows their texts."""

import re

# The texts of TensorFlow 2.20 and 2.21, in core/kernels/image/decode_image_op.cc and core/lib/{gif,jpeg,png,webp}.
_WORDS = (
    (r"jpeg::Uncompress failed|Invalid JPEG data", "the JPEG data are damaged or cut short"),
    (r"Invalid PNG", "the PNG data are damaged or cut short"),
    (r"Invalid GIF", "the GIF data are damaged or cut short"),
    (r"Failed to decode WebP", "the WebP data are damaged or cut short"),
    (r"Incomplete bmp content|Input size should match|Number of channels inherent", "the BMP data are damaged"),
    (r"Unknown image file format", "it is no JPEG, PNG, GIF, BMP or WebP image"),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), words) for pattern, words in _WORDS)


def decoder_words(text: str) -> str | None:
    """Return what a decoder's message means, without a full stop; None where it is none of a decoder's.

    Args:
        text: What TensorFlow, or a server that runs it, says.
    """
    return next((words for pattern, words in _PATTERNS if pattern.search(text)), None)
