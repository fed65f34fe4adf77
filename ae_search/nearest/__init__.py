"""Exact nearest neighbours: to the last bit with distances, or of very many queries at once."""

from ae_search.nearest.top_k import NONE, Ids, Rows, top_k

__all__ = ["Ids", "NONE", "Rows", "top_k"]
