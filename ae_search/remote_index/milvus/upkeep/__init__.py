"""Figures, checks and duplicates of an index on Milvus."""
