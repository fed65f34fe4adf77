"""The engines: what grows an immutable base from latents and returns candidates."""

from ae_search.index.engine.engine import Engine, engine_of

__all__ = ["Engine", "engine_of"]
