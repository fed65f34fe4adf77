"""Pretrained networks in front of the latents: loaded, fed as they want it, looked through, and thawed in part."""

from ae_search.model.backbone.applications import APPLICATIONS
from ae_search.model.backbone.loading import Backbone, load_backbone

__all__ = ["APPLICATIONS", "Backbone", "load_backbone"]
