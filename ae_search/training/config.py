"""What a training is told: every option checked before any work starts."""

import math
from dataclasses import dataclass, field
from typing import Literal

from ae_search.contract import FITS, Fit
from ae_search.data.pipeline import CACHES, Cache
from ae_search.errors import ConfigurationError
from ae_search.model import ARCHITECTURES, Architecture
from ae_search.model.parts import FEWEST_FLOATS
from ae_search.training.backbone_config import BackboneConfig
from ae_search.training.recipe import (
    PARTNERS,
    SCHEDULES,
    Recipe,
)

SIDES_PX = (8, 1024)
MOST_PATCHES = 1024
# Ingredients that are weights.
WEIGHTS = ("pixels", "gradients", "colours", "features", "contrast", "kept", "copies", "labels")
# What a run is trained to: an architecture of our own, or a backbone.
Kind = Literal[Architecture, "backbone"]
KINDS: tuple[Kind, ...] = (*ARCHITECTURES, "backbone")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a training does.

    Attributes:
        source: Name of the source, for the record.
        image_shape: Height and width in px, channels (1 or 3).
        architecture: "gradients", "conv", "tutorial" or "backbone".
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
        devices: GPUs, or logical CPUs where there is no GPU, that share each batch.
        recipe: What the encoder is trained to.
        backbone: Which backbone, where that is the architecture.
    """

    source: str
    image_shape: tuple[int, int, int]
    architecture: Kind = "gradients"
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
    devices: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    backbone: BackboneConfig | None = None

    @property
    def frozen(self) -> bool:
        """Whether there is a backbone of which nothing is trained."""
        return self.backbone is not None and not self.backbone.finetune


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
        ("devices must be at least 1 and at most batch_size", config.devices, 1 <= config.devices <= batch),
        ("seed must be 0 to 2**32 - 1", seed, 0 <= seed < 2**32),
        (f"fit must be one of {', '.join(FITS)}", config.fit, config.fit in FITS),
        (f"cache must be one of {', '.join(CACHES)}", config.cache, config.cache in CACHES),
        ("time_limit_s must be above 0 and finite", limit, limit is None or 0 < limit < math.inf),
    ]


def _rules_of(recipe: Recipe, config: TrainingConfig) -> list[Rule]:
    weights = {name: getattr(recipe, name) for name in WEIGHTS}
    colours, kind, behind = recipe.colours, config.architecture, config.backbone is not None
    shares = (recipe.moved, recipe.spoiled)
    return [
        ("Weights must be at least 0 and finite", weights, all(0 <= weight < math.inf for weight in weights.values())),
        ("The weight of the pixels must be above 0", recipe.pixels, recipe.pixels > 0),
        ("colours need images in colour", colours, colours == 0 or config.image_shape[2] == 3),
        (f"partner must be one of {', '.join(PARTNERS)}", recipe.partner, recipe.partner in PARTNERS),
        ("moved and spoiled must be 0 to 1", shares, all(0 <= share <= 1 for share in shares)),
        ("moved needs contrast, since partners are moved", recipe.moved, recipe.moved == 0 or recipe.contrast > 0),
        (
            "--from-components needs --architecture gradients, or a backbone",
            kind,
            not recipe.from_components or kind in ("gradients", "backbone"),
        ),
        (
            "kept needs from_components, which is what is kept, and no backbone",
            recipe.kept,
            not recipe.kept or (recipe.from_components and not behind),
        ),
        (
            f"--copies-part needs --from-components, and at least {FEWEST_FLOATS} floats",
            {"from_components": recipe.from_components, "latent_dim": config.latent_dim},
            not recipe.copies_part or (recipe.from_components and config.latent_dim >= FEWEST_FLOATS),
        ),
        (
            f"patches must be 0 to {MOST_PATCHES}; they need grey images, --architecture gradients, --from-components",
            recipe.patches,
            not recipe.patches
            or (
                0 < recipe.patches <= MOST_PATCHES
                and config.image_shape[2] == 1
                and kind == "gradients"
                and recipe.from_components
            ),
        ),
        (
            "copies needs copies_part, which is what it trains, and no backbone",
            recipe.copies,
            not recipe.copies or (recipe.copies_part and not behind),
        ),
        (f"schedule must be one of {', '.join(SCHEDULES)}", recipe.schedule, recipe.schedule in SCHEDULES),
        ("features to reconstruct need a backbone", recipe.features, behind or not recipe.features),
        ("There is no decoder of gradients behind a backbone", recipe.gradients, not behind or not recipe.gradients),
        (
            "moved and spoiled need --finetune: a frozen backbone looks once",
            shares,
            not config.frozen or not any(shares),
        ),
        ("architecture must be backbone where there is one, and nowhere else", kind, (kind == "backbone") == behind),
        ("Latents of tutorial cannot be scaled", recipe.scaled, not recipe.scaled or kind != "tutorial"),
    ]
