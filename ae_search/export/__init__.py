"""One SavedModel version folder: signatures, warm-up, model card, atomic publish."""

from ae_search.export.adapter import declared_shape
from ae_search.export.saved_model import export_encoder, fingerprint, load_encoder, versions
from ae_search.model.input_range import InputRange

__all__ = ["InputRange", "declared_shape", "export_encoder", "fingerprint", "load_encoder", "versions"]
