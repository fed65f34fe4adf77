"""New generations of an index on Milvus: written anew, of another model, or with its effort chosen anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ae_search.contract import OnItems, Origin, no_progress
from ae_search.remote_index.milvus import state as states
from ae_search.remote_index.milvus.generations import GenerationWriter, new_generation
from ae_search.remote_index.milvus.lock import hold
from ae_search.remote_index.milvus.place import MilvusPlace
from ae_search.remote_index.milvus.reading import Reader
from ae_search.remote_index.milvus.schema import check_size
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.tuning import tune
from ae_search.remote_index.milvus.writing import prepared


def compact(server: Server, place: MilvusPlace, *, wait_s: float = 0.0, on_progress: OnItems = no_progress) -> None:
    """Write a new generation from all items, where there were changes; see `Index.compact`."""
    with hold(server, place, wait_s) as claim:
        old = prepared(server, place, claim)
        if old.number == 1:
            return
        with new_generation(server, place, old.manifest, claim) as writer:
            writer.take_over(old)
        on_progress(writer.state.items)


@contextmanager
def rebuilding(server: Server, place: MilvusPlace, model: Origin, *, wait_s: float = 0.0) -> Iterator[GenerationWriter]:
    """Yield a writer for all items anew; see `Index.rebuilding`."""
    with hold(server, place, wait_s) as claim:
        manifest = prepared(server, place, claim).manifest.of_model(model)
        check_size(manifest.latent_dim)
        with new_generation(server, place, manifest, claim) as writer:
            yield writer


def tune_again(server: Server, place: MilvusPlace, recall: float | None, *, wait_s: float = 0.0) -> None:
    """Measure recall again and choose the effort anew; see `Index.tune`."""
    if recall is not None and not 0.0 < recall <= 1.0:
        raise ValueError(f"Expected recall in (0, 1]. Received: {recall}.")
    with hold(server, place, wait_s) as claim:
        state = prepared(server, place, claim)
        manifest = state.manifest
        manifest = replace(manifest, target_recall=manifest.target_recall if recall is None else recall)
        chosen, curve = tune(server, Reader(place, server), replace(state, manifest=manifest))
        tuned = replace(manifest, effort=chosen.effort, recall=chosen.recall, recall_curve=curve)
        claim.check()
        states.write(server, replace(state, number=state.number + 1, manifest=tuned), place.name)
