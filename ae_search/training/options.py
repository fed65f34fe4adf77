"""What a training can be asked for."""

from dataclasses import dataclass

from ae_search.contract import Fit
from ae_search.data.pipeline import Cache
from ae_search.model import Architecture
from ae_search.model.input_range import InputRange
from ae_search.training.recipe import Partner, RecipeName, Schedule


@dataclass(frozen=True)
class TrainingOptions:
    """What is asked of a training; None leaves it to the architecture and the images, see `configure`.

    Attributes:
        architecture: "gradients" (where there is no backbone), "conv" or "tutorial".
        backbone: A name in `keras.applications`, or the path of a `.keras` file from images to features.
        finetune: Last blocks of the backbone that are trained as well; 0 for none, which is much faster.
        input_range: Range of the values that the backbone in a file was trained on, where its layers do not say it.
        image_size: Height and width in px.
        channels: 1 or 3.
        latent_dim: Floats in a latent.
        recipe: What gives the ingredients that are not asked for: "default", or "long", which finds more in grey images
            and takes several times as long.
        epochs: Epochs in all.
        batch_size: Images a batch.
        learning_rate: Learning rate of Adam, at the beginning.
        validation: Share of the images, in [0, 0.5], held out to choose the best weights by.
        seed: Seed of weights, shuffle and hold-out.
        cache: Decoded images kept in memory: "auto", "memory" or "none".
        fit: "crop" or "pad": how images of another aspect ratio are brought to the model's.
        patience: End the training after so many epochs without a better one, 0 for never; a quarter of the epochs, and
            at least 10, unless given.
        time_limit_s: Stop after the epoch that comes closest to so many seconds of training; None for no limit.
        devices: GPUs, or logical CPUs where there is no GPU, that share each batch.
        pixels: Weight of the loss of the pixels; this and what follows is told at greater length by `Recipe`.
        gradients: Weight of the loss of the gradients.
        colours: Weight of the loss of the colours.
        features: Weight of the loss of the backbone's features.
        contrast: Weight of the contrastive loss.
        partner: "neighbour" or "view".
        kept: Weight of what latents began as.
        copies: Weight of the contrastive loss of the part that tells copies.
        labels: Weight of the classification head.
        moved: How far partners are moved, in [0, 1].
        spoiled: Share of the encoder's images that are spoiled, in [0, 1].
        from_components: Whether latents begin as principal components.
        copies_part: Whether some floats of the latents tell copies.
        patches: Typical patches that the encoder looks for.
        schedule: "cosine" or "constant".
        scaled: Whether latents are centred and scaled after the training.
    """

    architecture: Architecture | None = None
    backbone: str | None = None
    finetune: int = 0
    input_range: InputRange | None = None
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    latent_dim: int | None = None
    recipe: RecipeName = "default"
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    validation: float | None = None
    seed: int = 42
    cache: Cache = "auto"
    fit: Fit = "crop"
    patience: int | None = None
    time_limit_s: float | None = None
    devices: int = 1
    pixels: float | None = None
    gradients: float | None = None
    colours: float | None = None
    features: float | None = None
    contrast: float | None = None
    partner: Partner | None = None
    kept: float | None = None
    copies: float | None = None
    labels: float | None = None
    moved: float | None = None
    spoiled: float | None = None
    from_components: bool | None = None
    copies_part: bool | None = None
    patches: int | None = None
    schedule: Schedule | None = None
    scaled: bool | None = None
