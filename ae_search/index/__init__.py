"""The latent index: an Annoy forest, a SQLite catalogue, the changes since and a manifest, in generations."""

from ae_search.contract import ModelRef
from ae_search.index.builder import IndexBuilder
from ae_search.index.latent_index import LatentIndex
from ae_search.index.search.neighbour import Neighbour
from ae_search.index.store.manifest import Manifest

__all__ = ["IndexBuilder", "LatentIndex", "Manifest", "ModelRef", "Neighbour"]
