"""The latent index: an Annoy forest, a SQLite catalogue, the changes since and a manifest, in generations."""

from ae_search.contract import ModelRef
from ae_search.index.build import IndexBuilder
from ae_search.index.latent_index import LatentIndex
from ae_search.index.manifest import Manifest
from ae_search.index.neighbour import Neighbour

__all__ = ["IndexBuilder", "LatentIndex", "Manifest", "ModelRef", "Neighbour"]
