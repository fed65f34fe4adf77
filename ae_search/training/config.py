"""What a training is told: every option checked before any work starts."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from ae_search.contract import FITS, Fit
from ae_search.data import ArraySource, Source
from ae_search.data.pipeline import CACHES, Cache, images_at_once, kept_in_memory
from ae_search.data.sources import class_counts
from ae_search.errors import ConfigurationError
from ae_search.model import ARCHITECTURES, Architecture, latent_dim_of
from ae_search.training.options import TrainingOptions
from ae_search.training.patience import default_patience
from ae_search.training.recipe import PARTNERS, SCHEDULES, Recipe, default_epochs, default_recipe

SIDES_PX = (8, 1024)
FOLDER_IMAGE_SHAPE = (64, 64, 3)
DEFAULTS = TrainingOptions()
# Ingredients that are weights.
WEIGHTS = ("pixels", "gradients", "colours", "contrast", "kept", "labels")

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a training does.

    Attributes:
        source: Name of the source, for the record.
        image_shape: Height and width in px, channels (1 or 3).
        architecture: "gradients", "conv" or "tutorial".
        latent_dim: Floats in a latent.
        epochs: Epochs in all.
        batch_size: Images a batch.
        learning_rate: Learning rate of Adam, at the beginning.
        validation: Share of the images, in [0, 0.5], held out to choose the best weights by.
        seed: Seed of weights, shuffle and hold-out.
        cache: Decoded images kept in memory: "auto", "memory" or "none".
        fit: "crop" or "pad": how images of another aspect ratio are brought to the model's.
        patience: End the training after so many epochs without a better one; 0 for never.
        time_limit_s: Stop after the epoch that comes closest to so many seconds of training; None for no limit.
        recipe: What the encoder is trained to.
    """

    source: str
    image_shape: tuple[int, int, int]
    architecture: Architecture = "gradients"
    latent_dim: int = 128
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    validation: float = 0.05
    seed: int = 42
    cache: Cache = "auto"
    fit: Fit = "crop"
    patience: int = 0
    time_limit_s: float | None = None
    recipe: Recipe = field(default_factory=Recipe)


def configure(source: Source, options: TrainingOptions = DEFAULTS) -> TrainingConfig:
    """Fill in what the source and the architecture decide, and check every option.

    `tutorial` takes the tutorial's batches of 400, trains on all images and has no further ingredients; the others
    take batches of 256 (fewer of large images), a learning rate of 0.003 and the default recipe, hold out 5 %, and do
    more epochs of fewer images. `gradients` takes a learning rate of 0.0005 for images in colour. Images of a built-in
    source keep their size; those of a folder become 64 x 64 px in colour. Where images are not kept in memory, the
    partner of each is a view of itself.

    Args:
        source: The images.
        options: What is asked for.

    Raises:
        ConfigurationError: An option is out of its range or does not go with another.
    """
    config = _filled_in(source, options)
    check(config)
    if config.recipe.contrast and config.recipe.partner == "neighbour" and not _kept(source, config):
        if options.partner == "neighbour":
            raise ConfigurationError(
                f"--partner neighbour needs the images in memory (--cache memory). Received: --cache {config.cache}."
            )
        config = replace(config, recipe=replace(config.recipe, partner="view"))
    if config.recipe.labels and not class_counts(source):
        raise ConfigurationError(f"--label-weight needs images with labels. Received: {source.name}, which has none.")
    return config


def _filled_in(source: Source, options: TrainingOptions) -> TrainingConfig:
    image_shape, tutorial = _image_shape(source, options), options.architecture == "tutorial"
    epochs = _or(options.epochs, 20 if tutorial else default_epochs(len(source)))
    return TrainingConfig(
        source=source.name,
        image_shape=image_shape,
        architecture=options.architecture,
        latent_dim=_latent_dim(image_shape, options),
        epochs=epochs,
        batch_size=_or(options.batch_size, 400 if tutorial else images_at_once(image_shape)),
        learning_rate=_or(options.learning_rate, _learning_rate(image_shape, options)),
        validation=_or(options.validation, 0.0 if tutorial else 0.05),
        seed=options.seed,
        cache=options.cache,
        fit=options.fit,
        patience=_or(options.patience, default_patience(epochs)),
        time_limit_s=options.time_limit_s,
        recipe=_recipe(source, image_shape, options),
    )


def _learning_rate(image_shape: tuple[int, int, int], options: TrainingOptions) -> float:
    """Return the default: where latents keep what they began as, large steps would make them forget it first."""
    if options.architecture == "tutorial":
        return 1e-3
    return 5e-4 if options.architecture == "gradients" and image_shape[2] == 3 else 3e-3


def _or(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _image_shape(source: Source, options: TrainingOptions) -> tuple[int, int, int]:
    height, width, channels = source.image_shape if isinstance(source, ArraySource) else FOLDER_IMAGE_SHAPE
    if options.image_size is not None:
        height, width = options.image_size
    return height, width, _or(options.channels, channels)


def _kept(source: Source, config: TrainingConfig) -> bool:
    return kept_in_memory(source, config.image_shape, config.cache)


def _latent_dim(image_shape: tuple[int, int, int], options: TrainingOptions) -> int:
    if options.architecture not in ARCHITECTURES:
        raise ConfigurationError(
            f"--architecture must be one of {', '.join(ARCHITECTURES)}. Received: {options.architecture}."
        )
    try:
        return latent_dim_of(image_shape, options.architecture, options.latent_dim)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _recipe(source: Source, image_shape: tuple[int, int, int], options: TrainingOptions) -> Recipe:
    """Return the recipe of the architecture for these images, with what was asked for instead."""
    recipe = Recipe() if options.architecture == "tutorial" else default_recipe(len(source), image_shape)
    if options.architecture != "gradients":
        recipe = replace(recipe, from_components=False, kept=0.0, scaled=options.architecture == "conv")
    elif options.from_components is False:
        recipe = replace(recipe, kept=0.0, scaled=True)
    if options.contrast == 0:
        recipe = replace(recipe, moved=0.0)
    asked = {one.name: getattr(options, one.name) for one in fields(Recipe)}
    return replace(recipe, **{name: value for name, value in asked.items() if value is not None})


def check(config: TrainingConfig) -> None:
    """Hold every option to its range.

    Raises:
        ConfigurationError: One is out of it; all of those are named.
    """
    broken = [(rule, got) for rule, got, holds in (*_rules(config), *_rules_of(config.recipe, config)) if not holds]
    if broken:
        raise ConfigurationError(" ".join(f"{rule}. Received: {got}." for rule, got in broken))


# What must be, what came instead, and whether it is so.
Rule = tuple[str, object, bool]


def _rules(config: TrainingConfig) -> list[Rule]:
    (low, high), sides, channels = SIDES_PX, config.image_shape[:2], config.image_shape[2]
    dim, batch, rate = config.latent_dim, config.batch_size, config.learning_rate
    share, seed, limit = config.validation, config.seed, config.time_limit_s
    return [
        (f"Image sides must be {low} to {high} px", sides, all(low <= side <= high for side in sides)),
        ("channels must be 1 or 3", channels, channels in (1, 3)),
        ("latent_dim must be 1 to 4096 (Annoy's trees gain nothing beyond)", dim, 1 <= dim <= 4096),
        ("epochs must be at least 1", config.epochs, config.epochs >= 1),
        ("batch_size must be 1 to 65536", batch, 1 <= batch <= 65536),
        ("learning_rate must be above 0 and at most 1", rate, 0 < rate <= 1),
        ("validation must be at least 0 and at most 0.5", share, 0 <= share <= 0.5),
        ("patience must be at least 0", config.patience, config.patience >= 0),
        ("seed must be 0 to 2**32 - 1", seed, 0 <= seed < 2**32),
        (f"fit must be one of {', '.join(FITS)}", config.fit, config.fit in FITS),
        (f"cache must be one of {', '.join(CACHES)}", config.cache, config.cache in CACHES),
        ("time_limit_s must be above 0 and finite", limit, limit is None or 0 < limit < math.inf),
    ]


def _rules_of(recipe: Recipe, config: TrainingConfig) -> list[Rule]:
    weights = {name: getattr(recipe, name) for name in WEIGHTS}
    colours, kind = recipe.colours, config.architecture
    shares = (recipe.moved, recipe.spoiled)
    return [
        ("Weights must be at least 0 and finite", weights, all(0 <= weight < math.inf for weight in weights.values())),
        ("The weight of the pixels must be above 0", recipe.pixels, recipe.pixels > 0),
        ("colours need images in colour", colours, colours == 0 or config.image_shape[2] == 3),
        (f"partner must be one of {', '.join(PARTNERS)}", recipe.partner, recipe.partner in PARTNERS),
        ("moved and spoiled must be 0 to 1", shares, all(0 <= share <= 1 for share in shares)),
        ("moved needs contrast, since partners are moved", recipe.moved, recipe.moved == 0 or recipe.contrast > 0),
        (
            "--from-components needs --architecture gradients",
            kind,
            not recipe.from_components or kind == "gradients",
        ),
        ("kept needs from_components, which is what is kept", recipe.kept, not recipe.kept or recipe.from_components),
        (f"schedule must be one of {', '.join(SCHEDULES)}", recipe.schedule, recipe.schedule in SCHEDULES),
        ("Latents of tutorial cannot be scaled", recipe.scaled, not recipe.scaled or kind != "tutorial"),
    ]
