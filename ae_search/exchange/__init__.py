"""Latents in and out: Parquet and NumPy files of other programs, JSON lines for other engines."""
