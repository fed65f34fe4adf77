"""New generations of an index on PostgreSQL: written anew, of another model, or with its effort chosen anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ae_search.contract import OnItems, Origin, Resources, no_progress
from ae_search.remote_index.figures import renamed_sources
from ae_search.remote_index.postgres.connections import Connections
from ae_search.remote_index.postgres.generations import GenerationWriter, new_generation, sole_writer
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.schema import check_size
from ae_search.remote_index.postgres.state import load
from ae_search.remote_index.postgres.tuning import tune
from ae_search.remote_index.postgres.writing import Change

_TUNED = "UPDATE ae_search.generations SET manifest = %s, epoch = epoch + 1 WHERE number = %s"


def compact(
    connections: Connections,
    place: PostgresPlace,
    resources: Resources,
    *,
    wait_s: float = 0.0,
    on_progress: OnItems = no_progress,
) -> None:
    """Write a new generation from all items, where there were changes; see `Index.compact`."""
    with sole_writer(connections, place, wait_s) as session:
        old = load(session, place)
        if not old.changes:
            return
        with new_generation(session, place, old.manifest, resources) as writer:
            writer.take_over(old.number)
        on_progress(writer.items)


@contextmanager
def rebuilding(
    connections: Connections, place: PostgresPlace, model: Origin, resources: Resources, *, wait_s: float = 0.0
) -> Iterator[GenerationWriter]:
    """Yield a writer for all items anew; see `Index.rebuilding`."""
    with sole_writer(connections, place, wait_s) as session:
        manifest = load(session, place).manifest.of_model(model)
        check_size(manifest.latent_dim, manifest.options)
        with new_generation(session, place, manifest, resources) as writer:
            yield writer


def tune_again(connections: Connections, place: PostgresPlace, recall: float | None, *, wait_s: float = 0.0) -> None:
    """Measure recall again and choose the effort anew; see `Index.tune`."""
    if recall is not None and not 0.0 < recall <= 1.0:
        raise ValueError(f"Expected recall in (0, 1]. Received: {recall}.")
    with sole_writer(connections, place, wait_s) as session:
        state = load(session, place)
        manifest = state.manifest
        manifest = replace(manifest, target_recall=manifest.target_recall if recall is None else recall)
        chosen, curve = tune(session, state.number, manifest, (state.latents, state.next_id))
        tuned = replace(manifest, effort=chosen.effort, recall=chosen.recall, recall_curve=curve)
        session.execute(_TUNED, (tuned.to_json(), state.number))


def rename_source(change: Change, old: str, new: str) -> None:
    """Let a source have another name; see `Index.rename_source`."""
    change.describe(sources=renamed_sources(change.state.manifest.sources, old, new))
