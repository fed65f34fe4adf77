"""The embedded default model server: TensorFlow Serving's gRPC API over exported versions."""

# ruff: noqa: E402
from ae_search.quiet_import import load_tensorflow

# Before any module imports it by itself.
load_tensorflow()

from ae_search.model_server.local import LocalEncoder
from ae_search.model_server.options import Batching, Limits, ServerTls
from ae_search.model_server.policy import Labels, VersionPolicy
from ae_search.model_server.servable import Servable
from ae_search.model_server.server import ModelServer

__all__ = ["Batching", "Labels", "Limits", "LocalEncoder", "ModelServer", "Servable", "ServerTls", "VersionPolicy"]
