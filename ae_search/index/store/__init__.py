"""Generations on disk: their manifest, their digests, which one is live."""
