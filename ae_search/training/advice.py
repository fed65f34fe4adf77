"""What a person who trains on photographs should know of backbones."""

import numpy as np

from ae_search.data import Source
from ae_search.data.pipeline import first_images

# Enough to tell photographs in colour from scans in grey.
LOOKED_AT = 8
SIDE_PX = 32
# Mean difference of an image's brightest and darkest channel, above which it has colours.
LEAST_CHROMA = 0.02

BACKBONE_ADVICE = (
    "photographs: a pretrained backbone finds far more of what is alike in them; add --backbone EfficientNetV2B0, or a "
    ".keras file"
)


def of_coloured_photographs(source: Source) -> bool:
    """Tell whether a source holds image files, most of them in colour.

    Raises:
        ConfigurationError: None of them can be read.
    """
    if source.image_shape is not None:
        return False
    images = first_images(source, (SIDE_PX, SIDE_PX, 3), LOOKED_AT)
    chroma = np.mean(images.max(axis=3) - images.min(axis=3), axis=(1, 2))
    return bool(np.mean(chroma > LEAST_CHROMA) > 0.5)
