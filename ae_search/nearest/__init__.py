"""Exact nearest neighbours: to the last bit with distances, or of very many queries at once."""

from ae_search.nearest.in_bulk import NONE, Ids, Rows, top_k

__all__ = ["Ids", "NONE", "Rows", "top_k"]
