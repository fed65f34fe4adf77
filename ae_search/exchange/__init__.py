"""Latents in and out: Parquet and NumPy files of other programs, JSON lines for other engines."""

from ae_search.exchange.latent_files import export_latents, import_latents, read_keys

__all__ = ["export_latents", "import_latents", "read_keys"]
