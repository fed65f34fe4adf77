"""Latents in bulk on Apache Beam, on any of its runners; needs the extra `beam`.

Example:
    >>> import apache_beam
    >>> from ae_search import LatentClient
    >>> from ae_search.beam import EncodeImages, ReadImages, WriteLatents
    >>> with LatentClient("models:8500", "photos") as client:
    ...     encode = EncodeImages(client)
    >>> with apache_beam.Pipeline(options=options) as pipeline:
    ...     pipeline | ReadImages("gs://photos/2026") | encode | WriteLatents("gs://latents/2026", encode.model)
"""

from ae_search.extras import needs

with needs("Pipelines need apache-beam", "beam"):
    import apache_beam  # noqa: F401

from ae_search.beam.elements import EncodedImage, Image
from ae_search.beam.encoding import EncodeImages, TFServingModelHandler
from ae_search.beam.job import embed_on_runner, is_direct, options_of
from ae_search.beam.loading import LoadIndex
from ae_search.beam.reading import ReadImages
from ae_search.beam.writing import WriteLatents

__all__ = [
    "EncodeImages",
    "EncodedImage",
    "Image",
    "LoadIndex",
    "ReadImages",
    "TFServingModelHandler",
    "WriteLatents",
    "embed_on_runner",
    "is_direct",
    "options_of",
]
