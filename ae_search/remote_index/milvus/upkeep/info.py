"""What an index on Milvus holds, in figures."""

from ae_search.contract import IndexInfo
from ae_search.remote_index.figures import reason_to_compact
from ae_search.remote_index.milvus.options import MilvusOptions
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import State

# What keys, labels and metadata take of an item, about; Milvus tells no size.
_BYTES_BESIDE = 400
# Links in the lowest layer of the graph, of 4 bytes each, and those of the others, about.
_LINK_BYTES = 9


def info(server: Server, state: State, place: str) -> IndexInfo:
    """Return the figures of an index.

    Args:
        server: The server.
        state: The index.
        place: Its name.
    """
    manifest = state.manifest
    options = manifest.options
    each = 4 * manifest.latent_dim + _LINK_BYTES * options.m + _BYTES_BESIDE
    return IndexInfo(
        place=place,
        generation=state.collection,
        items=state.items,
        latents=state.latents,
        in_base=state.in_base,
        added=state.added,
        removed=state.removed,
        bytes=each * max(1, state.latents),
        model=manifest.model,
        image_shape=manifest.image_shape,
        latent_dim=manifest.latent_dim,
        metric=manifest.metric,
        engine=MilvusOptions.engine,
        engine_options={**options.to_json(), "milvus": server.version(), "bytes_are": "estimated"},
        effort=manifest.effort,
        recall=manifest.recall,
        target_recall=manifest.target_recall,
        recall_curve=manifest.recall_curve,
        sources=manifest.sources,
        created=manifest.created,
        compact_because=reason_to_compact(state.in_base, state.added, state.removed),
    )
