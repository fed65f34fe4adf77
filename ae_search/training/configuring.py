"""What a training is told, filled in: defaults of the source, of the architecture, and of a backbone."""

from dataclasses import fields, replace
from typing import TypeVar

from ae_search.data import ArraySource, Source
from ae_search.data.pipeline import images_at_once, kept_in_memory
from ae_search.data.sources import class_counts
from ae_search.errors import ConfigurationError
from ae_search.model import ARCHITECTURES, Architecture, latent_dim_of
from ae_search.model.autoencoder import DEFAULT_LATENT_DIM
from ae_search.model.backbone import Backbone
from ae_search.model.backbone.looks import size_for
from ae_search.model.parts import FEWEST_FLOATS
from ae_search.training.backbone_config import BackboneConfig, chosen_backbone
from ae_search.training.config import TrainingConfig, check
from ae_search.training.options import TrainingOptions
from ae_search.training.patience import default_patience
from ae_search.training.recipe import (
    GREY_COPIES,
    LONG_EPOCHS,
    RECIPE_NAMES,
    Recipe,
    backbone_recipe,
    default_batch_size,
    default_epochs,
    default_recipe,
    long_recipe,
)

FOLDER_IMAGE_SHAPE = (64, 64, 3)
DEFAULTS = TrainingOptions()
# Behind a frozen backbone the batches are of vectors, behind one that is trained of large images.
BACKBONE_BATCHES = (128, 32)
# The latents begin as what a training at higher rates would spoil.
BACKBONE_RATE = 1e-4
BACKBONE_EPOCHS = (20, 10)

T = TypeVar("T")


def configure(source: Source, options: TrainingOptions = DEFAULTS) -> TrainingConfig:
    """Fill in what the source and the architecture decide, and check every option.

    `tutorial` takes the tutorial's batches of 400, trains on all images and has no further ingredients; the others
    take batches of 256 (fewer of large images, and of few), a learning rate of 0.003 and the default recipe, hold out
    5 %, and do more epochs of fewer images. `gradients` takes a learning rate of 0.0005 for images in colour. Images of
    a built-in source keep their size; those of a folder become 64 x 64 px in colour. A backbone, which is loaded here,
    has its own size and recipe. Where images are not kept in memory, the partner of each is a view of itself.

    Args:
        source: The images.
        options: What is asked for.

    Raises:
        ConfigurationError: An option is out of its range or does not go with another.
    """
    _check_name(source, options)
    backbone = chosen_backbone(options)
    config = _filled_in(source, options) if backbone is None else _behind(backbone, source, options)
    check(config)
    sees_images = config.recipe.contrast and not config.frozen
    if sees_images and config.recipe.partner == "neighbour" and not _kept(source, config):
        if options.partner == "neighbour":
            raise ConfigurationError(
                f"--partner neighbour needs the images in memory (--cache memory). Received: --cache {config.cache}."
            )
        config = replace(config, recipe=replace(config.recipe, partner="view"))
    if config.recipe.labels and not class_counts(source):
        raise ConfigurationError(f"--label-weight needs images with labels. Received: {source.name}, which has none.")
    return config


def _check_name(source: Source, options: TrainingOptions) -> None:
    """Refuse a recipe that is unknown, or that does not suit these images.

    Raises:
        ConfigurationError: It is such a recipe.
    """
    if options.recipe not in RECIPE_NAMES:
        raise ConfigurationError(f"--recipe must be one of {', '.join(RECIPE_NAMES)}. Received: {options.recipe}.")
    ours = options.backbone is None and options.architecture in (None, "gradients")
    begins = options.from_components is not False
    if options.recipe == "long" and not (ours and begins and _image_shape(source, options)[2] == 1):
        raise ConfigurationError(
            "--recipe long is for grey images (--channels 1), --architecture gradients, --from-components, and no "
            f"backbone. Received: channels={_image_shape(source, options)[2]}, architecture={options.architecture}, "
            f"from_components={options.from_components}, backbone={options.backbone}."
        )


def _filled_in(source: Source, options: TrainingOptions) -> TrainingConfig:
    architecture: Architecture = options.architecture or "gradients"
    image_shape, tutorial = _image_shape(source, options), architecture == "tutorial"
    times = LONG_EPOCHS if options.recipe == "long" else 1
    epochs = _or(options.epochs, 20 if tutorial else times * default_epochs(len(source)))
    return TrainingConfig(
        source=source.name,
        image_shape=image_shape,
        architecture=architecture,
        latent_dim=_latent_dim(image_shape, architecture, options.latent_dim),
        epochs=epochs,
        batch_size=_or(
            options.batch_size, 400 if tutorial else default_batch_size(len(source), images_at_once(image_shape))
        ),
        learning_rate=_or(options.learning_rate, _learning_rate(image_shape, architecture)),
        validation=_or(options.validation, 0.0 if tutorial else 0.05),
        seed=options.seed,
        cache=options.cache,
        fit=options.fit,
        patience=_or(options.patience, default_patience(epochs)),
        time_limit_s=options.time_limit_s,
        devices=options.devices,
        recipe=_recipe(source, image_shape, options),
    )


def _behind(backbone: Backbone, source: Source, options: TrainingOptions) -> TrainingConfig:
    """Fill in what a backbone decides."""
    which = 0 if (frozen := options.finetune == 0) else 1
    epochs = _or(options.epochs, BACKBONE_EPOCHS[which])
    return TrainingConfig(
        source=source.name,
        image_shape=(*_or(options.image_size, size_for(backbone.size)), 3),
        architecture="backbone",
        latent_dim=_or(options.latent_dim, DEFAULT_LATENT_DIM),
        epochs=epochs,
        batch_size=_or(options.batch_size, default_batch_size(len(source), BACKBONE_BATCHES[which])),
        learning_rate=_or(options.learning_rate, BACKBONE_RATE),
        validation=_or(options.validation, 0.05),
        seed=options.seed,
        cache=options.cache,
        fit=options.fit,
        patience=_or(options.patience, default_patience(epochs)),
        time_limit_s=options.time_limit_s,
        devices=options.devices,
        recipe=_asked(backbone_recipe(frozen=frozen), options),
        backbone=BackboneConfig.of(backbone, options.finetune),
    )


def _learning_rate(image_shape: tuple[int, int, int], architecture: Architecture) -> float:
    """Return the default: where latents keep what they began as, large steps would make them forget it first."""
    if architecture == "tutorial":
        return 1e-3
    return 5e-4 if architecture == "gradients" and image_shape[2] == 3 else 3e-3


def _or(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _image_shape(source: Source, options: TrainingOptions) -> tuple[int, int, int]:
    height, width, channels = source.image_shape if isinstance(source, ArraySource) else FOLDER_IMAGE_SHAPE
    if options.image_size is not None:
        height, width = options.image_size
    return height, width, _or(options.channels, channels)


def _kept(source: Source, config: TrainingConfig) -> bool:
    return kept_in_memory(source, config.image_shape, config.cache)


def _latent_dim(image_shape: tuple[int, int, int], architecture: Architecture, asked: int | None) -> int:
    if architecture not in ARCHITECTURES:
        raise ConfigurationError(f"--architecture must be one of {', '.join(ARCHITECTURES)}. Received: {architecture}.")
    try:
        return latent_dim_of(image_shape, architecture, asked)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _recipe(source: Source, image_shape: tuple[int, int, int], options: TrainingOptions) -> Recipe:
    """Return the recipe of the architecture for these images, with what was asked for instead."""
    named = long_recipe if options.recipe == "long" else default_recipe
    recipe = Recipe() if options.architecture == "tutorial" else named(len(source), image_shape)
    if options.architecture not in (None, "gradients"):
        recipe = replace(_without_start(recipe), scaled=options.architecture == "conv")
    elif options.from_components is False:
        recipe = replace(_without_start(recipe), scaled=True)
    elif options.copies_part and image_shape[2] == 1:
        recipe = replace(recipe, copies=GREY_COPIES)
    if options.contrast == 0:
        recipe = replace(recipe, moved=0.0)
    return _asked(recipe, options)


def _without_start(recipe: Recipe) -> Recipe:
    """Leave out what needs latents that begin as components."""
    return replace(recipe, from_components=False, kept=0.0, copies_part=False, copies=0.0, patches=0)


def _asked(recipe: Recipe, options: TrainingOptions) -> Recipe:
    few = (options.latent_dim or FEWEST_FLOATS) < FEWEST_FLOATS
    if few or options.from_components is False or options.copies_part is False:
        recipe = replace(recipe, copies_part=False, copies=0.0)
    asked = {one.name: getattr(options, one.name) for one in fields(Recipe)}
    return replace(recipe, **{name: value for name, value in asked.items() if value is not None})
