"""Search by image: an encoder, served or in this process, and an index that belong together."""

from ae_search.search.as_files import ImageInput
from ae_search.search.async_image_search import AsyncImageSearch
from ae_search.search.candidates import Candidate
from ae_search.search.image_search import ImageSearch
from ae_search.search.query import Images
from ae_search.trust import Trusted

__all__ = ["AsyncImageSearch", "Candidate", "ImageInput", "ImageSearch", "Images", "Trusted"]
