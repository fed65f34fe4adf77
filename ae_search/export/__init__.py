"""One SavedModel version folder: signatures, warm-up, model card, atomic publish."""

from ae_search.export.saved_model import export_encoder, fingerprint, load_encoder, versions

__all__ = ["export_encoder", "fingerprint", "load_encoder", "versions"]
