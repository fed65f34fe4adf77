"""What an encoder is trained to: every ingredient has a name and can be left out by itself."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

Schedule = Literal["cosine", "constant"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
RecipeName = Literal["default", "long"]
RECIPE_NAMES: tuple[RecipeName, ...] = get_args(RecipeName)
Partner = Literal["neighbour", "view"]
PARTNERS: tuple[Partner, ...] = get_args(Partner)

MANY = 10_000
# Batches of an epoch, and images of a batch, at least.
LEAST_STEPS = 16
LEAST_BATCH = 16
# Heavy enough that the training costs no precision.
KEPT = 50.0
# Weight of `copies` where grey images get a part that tells copies. Components of gradients are worth nothing there.
GREY_COPIES = 1.0
# The long recipe for grey images: typical patches, and times the epochs.
LONG_PATCHES = 96
LONG_EPOCHS = 2


@dataclass(frozen=True)
class Recipe:
    """The ingredients. A loss of weight 0 is left out.

    Attributes:
        pixels: Weight of the reconstruction of the pixels.
        gradients: Weight of a second decoder, which reconstructs a histogram of oriented gradients.
        colours: Weight of a third one, which reconstructs a histogram of colours; for images in colour.
        features: Weight of a further one, which reconstructs the features of a backbone.
        contrast: Weight of a contrastive loss: the latent of an image is to be nearer to that of its partner than to
            those of the other partners in its batch.
        partner: "neighbour" is one of the five nearest images by gradients (and colours), "view" the image itself,
            altered anew.
        kept: Weight of the cosine between the latent of an image, altered or not, and the latent that it had before the
            training; needs `from_components`.
        copies: Weight of a contrastive loss of the part that tells copies: that of an image is to be nearer to that of
            an altered view of the image than to those of other views in its batch; needs `copies_part`.
        labels: Weight of a classification head, which learns from the images that have a label and is dropped after
            the training.
        moved: How far partners are mirrored, turned, zoomed and shifted at random, in [0, 1]; needs `contrast`.
        spoiled: Share in [0, 1] of the encoder's images that are blurred, darkened, noisy or have a spot; the decoders
            are to give back what was there before.
        from_components: Whether the linear part of the latents begins, before the training, as the principal components
            of what the encoder measures, scaled by eigenvalue^-1/4; for the architecture `gradients`.
        copies_part: Whether some floats of the latents tell altered copies, see `model.parts`; needs `from_components`.
            They are components of gradients, which no training changes unless `copies` has a weight.
        patches: Typical patches that the encoder looks for beside the gradients, see `model.patches`; for grey images
            and the architecture `gradients`, needs `from_components`.
        schedule: Schedule of the learning rate: "cosine" falls to 0 at the last epoch, "constant" stays.
        scaled: Whether the latents are centred, turned and scaled after the training, so that their principal
            components count by eigenvalue^-1/4.
    """

    pixels: float = 1.0
    gradients: float = 0.0
    colours: float = 0.0
    features: float = 0.0
    contrast: float = 0.0
    partner: Partner = "neighbour"
    kept: float = 0.0
    copies: float = 0.0
    labels: float = 0.0
    moved: float = 0.0
    spoiled: float = 0.0
    from_components: bool = False
    copies_part: bool = False
    patches: int = 0
    schedule: Schedule = "constant"
    scaled: bool = False


def default_recipe(images: int, image_shape: tuple[int, int, int]) -> Recipe:
    """Return the recipe for so many images of such a shape; few images are moved further.

    Images in colour begin with groups that are weighted already: their latents are not scaled, and keep what they know.
    `bench/README.md` has the figures.
    """
    colour = image_shape[2] == 3
    return Recipe(
        pixels=10.0,
        gradients=1.0,
        colours=1.0 if colour else 0.0,
        contrast=1.0,
        kept=KEPT if colour else 0.0,
        moved=0.2 if images >= MANY else 0.3,
        spoiled=0.3,
        from_components=True,
        copies_part=colour,
        schedule="cosine",
        scaled=not colour,
    )


def long_recipe(images: int, image_shape: tuple[int, int, int]) -> Recipe:
    """Return the recipe for grey images that finds more than the default, and takes far longer."""
    return replace(default_recipe(images, image_shape), patches=LONG_PATCHES)


def backbone_recipe(*, frozen: bool) -> Recipe:
    """Return the recipe behind a backbone. A frozen one sees no altered images, since it looks at each once."""
    return Recipe(
        pixels=0.1,
        features=1.0,
        contrast=1.0,
        moved=0.0 if frozen else 0.3,
        spoiled=0.0 if frozen else 0.3,
        from_components=True,
        copies_part=True,
        schedule="cosine",
        scaled=False,
    )


def default_batch_size(images: int, most: int) -> int:
    """Return the images a batch: `most`, or fewer of few images, so that an epoch has at least 16 batches.

    A decoder learns by steps: one of 170 photographs that took a single step an epoch gave back grey clouds. Below 16
    images a batch says little of their mean and variance, and an image has few others to be told from.
    """
    return min(most, max(LEAST_BATCH, images // LEAST_STEPS))


def default_epochs(images: int) -> int:
    """Return the epochs for so many images: 24 for 60,000, more for fewer, but not above 60."""
    return max(24, min(60, 1_440_000 // max(1, images)))
