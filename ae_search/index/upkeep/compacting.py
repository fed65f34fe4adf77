"""New generations of an index: its changes folded in, another model's latents, or the effort chosen anew."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ae_search.contract import ModelRef, OnItems, Origin, Resources, no_progress
from ae_search.errors import IndexDamagedError
from ae_search.index.engine.tuning import tune
from ae_search.index.items.catalogue import KeyTwiceError
from ae_search.index.items.fields import checked_fields
from ae_search.index.manifest import live_generation
from ae_search.index.options import EngineOptions
from ae_search.index.store.following import changing
from ae_search.index.store.generation import Generation
from ae_search.index.store.generation_writer import GenerationWriter, disk_errors, new_generation
from ae_search.index.store.place import sole_writer
from ae_search.index.store.snapshot import newest

_ALL_THERE_IS = Resources()


def compact(
    path: Path,
    resources: Resources = _ALL_THERE_IS,
    *,
    engine: EngineOptions | None = None,
    fields: Sequence[str] | None = None,
    wait_s: float = 0.0,
    on_progress: OnItems = no_progress,
) -> None:
    """Fold all changes into a new generation, where there is anything to do; see `Index.compact`."""
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        old = newest(path)
        manifest = old.manifest
        chosen = _chosen(manifest.engine, engine)
        plan = manifest.plan(
            sources=old.sources(),
            engine=chosen,
            fields=manifest.fields if fields is None else checked_fields(fields),
        )
        as_before = (chosen, plan.fields) == (manifest.engine, manifest.fields)
        if as_before and not len(old.delta) and not old.delta.removed_count:
            return
        with _its_own_items(path), new_generation(path, plan, resources) as writer:
            writer.calibration.update(old.generation.changes.calibration())
            for latents, items in old.blocks():
                writer.add_items(latents, items)
                on_progress(len(items))


@contextmanager
def rebuilding(
    path: Path,
    model: Origin,
    resources: Resources = _ALL_THERE_IS,
    *,
    engine: EngineOptions | None = None,
    wait_s: float = 0.0,
) -> Iterator[GenerationWriter]:
    """Yield a writer for all items anew; see `LatentIndex.rebuilding`."""
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        old = newest(path)
        plan = old.manifest.plan(
            model=ModelRef(model.name, model.version, model.fingerprint),
            image_shape=model.image_shape,
            latent_dim=model.latent_dim,
            metric=model.metric,
            engine=_chosen(old.manifest.engine, engine),
            sources=old.sources(),
        )
        with _its_own_items(path), new_generation(path, plan, resources) as writer:
            yield writer


def tune_again(path: Path, recall: float | None = None, *, wait_s: float = 0.0) -> None:
    """Measure recall again and choose the effort anew; see `LatentIndex.tune`."""
    if recall is not None and not 0.0 < recall <= 1.0:
        raise ValueError(f"Expected recall in (0, 1]. Received: {recall}.")
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        generation = Generation(live_generation(path))
        old = generation.manifest
        target = old.target_recall if recall is None else recall
        chosen, curve = tune(generation.base, old.engine, recall=target, seed=old.seed)
        manifest = replace(old, target_recall=target, effort=chosen.effort, recall=chosen.recall, recall_curve=curve)
        with disk_errors(path), changing(path):
            manifest.write(generation.folder)


def _chosen(present: EngineOptions, asked: EngineOptions | None) -> EngineOptions:
    """Return the options of the engine to move to; those that are there, where it is the same one or none is asked."""
    return present if asked is None or asked.engine == present.engine else asked


@contextmanager
def _its_own_items(path: Path) -> Iterator[None]:
    """Tell a key that comes twice as damage, where the items are those of an index."""
    try:
        yield
    except KeyTwiceError as error:
        raise IndexDamagedError(f"{path} is damaged ({error}) Restore it or build it anew.") from error
