"""What is trained behind a backbone, and by what: from vectors while it is frozen, from images where it is not."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.data.pipeline import Images, Positions
from ae_search.model import conv
from ae_search.model.backbone import Backbone
from ae_search.model.backbone.blocks import thaw
from ae_search.model.backbone.encoder import (
    build_measured_encoder,
    build_whole_encoder,
    join,
    measuring_model,
    reconstructed_shape,
)
from ae_search.model.backbone.looks import COLOUR_FLOATS
from ae_search.model.heads import COLOURS, FEATURES, GRADIENTS
from ae_search.model.histograms import GRADIENT_FLOATS
from ae_search.model.parts import COPIES, KINDS, floats_of_kinds
from ae_search.principal import Components
from ae_search.training.batches import Batches
from ae_search.training.config import TrainingConfig
from ae_search.training.devices import Scope, on_one_device
from ae_search.training.neighbour_components import weighed_components
from ae_search.training.observations import Progress, observe
from ae_search.training.observed_batches import Measured, ObservedBatches
from ae_search.training.partners import partners_by
from ae_search.training.starting import STARTED_BY, begin_as, tell_copies

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Behind:
    """Parts of a training.

    Attributes:
        kept: Positions trained on.
        held_out: Positions held out.
        batches: Makes the datasets.
        encoder: What is trained, up to the latents.
        decoder: Latents to small images.
        floats: Floats of what each further decoder gives back.
        seen: What encodes the images at some positions.
        whole: Returns the autoencoder of images, from the one that is trained.
    """

    kept: Positions
    held_out: Positions
    batches: Batches | ObservedBatches
    encoder: Any
    decoder: Any
    floats: dict[str, int]
    seen: Images | Measured
    whole: Callable[[Any], Any]


def behind_backbone(
    images: Images,
    parts: tuple[Positions, Positions],
    classes: npt.NDArray[np.int32],
    config: TrainingConfig,
    *,
    observed: Path,
    progress: Progress,
    scope: Scope = on_one_device,
) -> Behind:
    """Look through the backbone once, and build what is trained behind it.

    Args:
        images: The images.
        parts: Positions to train on, and those held out.
        classes: Class of each position of the source.
        config: What to do; it has a backbone.
        observed: Folder that keeps what the backbone sees.
        progress: Shows how far that is.
        scope: Scope in which all trained models are built.

    Raises:
        ConfigurationError: The backbone is not the one that the run began with.
    """
    assert config.backbone is not None
    with scope():
        backbone = config.backbone.load(config.image_shape)
    told = (backbone.name, backbone.fed, *config.image_shape[:2], *backbone.size)
    log.info("the backbone %s is fed %s; images are %dx%d px, its looks at them %dx%d", *told)
    measured = Measured(observe(images, backbone, observed, progress=progress))
    kept, held_out = (np.intersect1d(part, measured.observations.positions) for part in parts)
    chosen = np.sort(np.random.default_rng(config.seed).permutation(kept)[:STARTED_BY])
    rows, divided = measured.rows(chosen), config.recipe.copies_part
    components = weighed_components(
        rows[:, :-GRADIENT_FLOATS],
        backbone.floats,
        floats_of_kinds(config.latent_dim) if divided else config.latent_dim,
    )
    partners = _partners(measured, components, [kept, held_out], config)
    batches: Batches | ObservedBatches
    if config.frozen:
        batches = ObservedBatches(measured, config.recipe, partners, classes)
    else:
        _thaw(backbone, config.backbone.finetune)
        batches = Batches(images, config.recipe, partners, classes, measured.given_back(config.recipe))
    with scope():
        encoder = _encoder(backbone, measured, config)
        decoder = conv.decoder(reconstructed_shape(config.image_shape), config.latent_dim)
    if config.recipe.from_components:
        begin_as(encoder.get_layer(KINDS if divided else "latents"), components, alone=True)
    if divided:
        tell_copies(encoder.get_layer(COPIES), rows[:, -GRADIENT_FLOATS:], seed=config.seed)
    return Behind(
        kept,
        held_out,
        batches,
        encoder,
        decoder,
        {COLOURS: COLOUR_FLOATS, GRADIENTS: GRADIENT_FLOATS, FEATURES: backbone.floats},
        measured if config.frozen else images,
        lambda autoencoder: join(measuring_model(backbone.model, config.image_shape), autoencoder),
    )


def _encoder(backbone: Backbone, measured: Measured, config: TrainingConfig) -> Any:
    """Build what is trained: behind what was measured, or behind images where the backbone learns as well."""
    floats, divided = config.latent_dim, config.recipe.copies_part
    if config.frozen:
        return build_measured_encoder(measured.combine.output_shape[1], floats, parts=divided)
    return build_whole_encoder(measuring_model(backbone.model, config.image_shape), floats, parts=divided)


def _partners(
    measured: Measured, components: Components, groups: list[Positions], config: TrainingConfig
) -> npt.NDArray[np.int32] | None:
    """Return the nearest neighbours by what the latents begin as."""
    if not config.recipe.contrast or config.recipe.partner == "view":
        return None

    def rows(part: Positions) -> npt.NDArray[np.float32]:
        return np.concatenate([components.of(block[:, :-GRADIENT_FLOATS]) for block in measured.blocks(part)])

    return partners_by(rows, len(measured.source), groups, seed=config.seed)


def _thaw(backbone: Backbone, blocks: int) -> None:
    thawed = thaw(backbone.model, blocks)
    log.info(
        "the last %d of %d blocks of %s are trained as well, from %s on: %s weights",
        thawed.blocks,
        thawed.of,
        backbone.name,
        thawed.first,
        f"{thawed.weights:,}",
    )
