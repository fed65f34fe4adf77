"""The local index: an engine's base, a SQLite catalogue, the changes since and a manifest, in generations."""

from ae_search.contract import ModelRef, Neighbour, Resources
from ae_search.index.builder import IndexBuilder
from ae_search.index.latent_index import LatentIndex
from ae_search.index.manifest import Manifest
from ae_search.index.options import AnnoyOptions, BuildOptions, FaissCodesOptions, FaissOptions

__all__ = [
    "AnnoyOptions",
    "BuildOptions",
    "FaissCodesOptions",
    "FaissOptions",
    "IndexBuilder",
    "LatentIndex",
    "Manifest",
    "ModelRef",
    "Neighbour",
    "Resources",
]
