"""`ae-search train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ae_search.cli.index.options import SourceName
from ae_search.cli.options import (
    Only,
    SourceFlags,
    Strict,
    load_tensorflow,
    parse_image_size,
    tell_truncated,
    with_source_flags,
)
from ae_search.cli.terminal import progress, say

if TYPE_CHECKING:
    from ae_search.contract import Fit
    from ae_search.data.pipeline import Cache
    from ae_search.model import Architecture
    from ae_search.model.input_range import InputRange
    from ae_search.training import TrainingOptions
    from ae_search.training.recipe import Partner, RecipeName, Schedule

_NO_FLAGS = SourceFlags()
RECIPE = "Recipe (the defaults depend on the architecture)"


@with_source_flags
def train(
    flags: SourceFlags,
    source: SourceName,
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder; a training that was killed resumes from it.")],
    architecture: Annotated[
        str | None, typer.Option(help="Architecture, where there is no backbone: gradients, conv or tutorial.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(help="Recipe: default, or long, which finds more in grey images and takes several times as long."),
    ] = "default",
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Pretrained backbone in front of the latents: a name in keras.applications, whose weights are "
            "downloaded once, or a .keras file from images to features.",
        ),
    ] = None,
    finetune: Annotated[
        int, typer.Option(metavar="N", help="Last blocks of the backbone to train as well, which takes far longer.")
    ] = 0,
    input_range: Annotated[
        str | None,
        typer.Option(
            help="Range of pixel values that the backbone in FILE was trained on: 0-1, 0-255 or -1-1. By default, what "
            "its first layers say."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Number of epochs: 24 to 60, fewer for more images; 20 for tutorial and behind a backbone, 10 with "
            "--finetune."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Images per batch: up to 256, 128 behind a backbone, 32 with --finetune; fewer of large images, and "
            "down to 16 for few images; 400 for tutorial."
        ),
    ] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Floats per latent: 128; tutorial has its own number.")] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW", help="Size of the images in px: the backbone's or the source's own; 64x64 for folders."
        ),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="Channels, 1 for grey or 3 for colour: the source's own; 3 for folders.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of Adam: 0.003; 0.0005 in colour; 0.001 for tutorial, 0.0001 behind a backbone."
        ),
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of the images that is held out: 0.05; 0 for tutorial.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for weights, shuffling and hold-out.")] = 42,
    cache: Annotated[
        str, typer.Option(help="Decoded images to keep in memory: auto (up to 1 GiB), memory or none.")
    ] = "auto",
    fit: Annotated[
        str, typer.Option(help="Fit of images of another shape: crop (the centre) or pad (all of it, with a border).")
    ] = "crop",
    patience: Annotated[
        int | None,
        typer.Option(
            help="Epochs to wait for a better one before the training ends, 0 for no end: a quarter of the epochs, and "
            "10 or more."
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Time limit for the training; the epoch that ends nearest to it is the last."
        ),
    ] = None,
    devices: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of GPUs of this machine, or of logical CPUs if there is no GPU, to divide each batch among.",
        ),
    ] = 1,
    pixel_weight: Annotated[
        float | None, typer.Option(help="Weight of the pixels' reconstruction.", rich_help_panel=RECIPE)
    ] = None,
    gradient_weight: Annotated[
        float | None, typer.Option(help="Weight of a second decoder, for oriented gradients.", rich_help_panel=RECIPE)
    ] = None,
    colour_weight: Annotated[
        float | None,
        typer.Option(help="Weight of a third decoder, for a histogram of colours.", rich_help_panel=RECIPE),
    ] = None,
    feature_weight: Annotated[
        float | None,
        typer.Option(help="Weight of a decoder for the features of a backbone.", rich_help_panel=RECIPE),
    ] = None,
    contrast_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the contrastive loss: each image must recognise its partner.", rich_help_panel=RECIPE
        ),
    ] = None,
    partner: Annotated[
        str | None,
        typer.Option(
            help="Partner of an image: neighbour (needs them in memory), or a view of itself.", rich_help_panel=RECIPE
        ),
    ] = None,
    kept_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of what the latents began as (needs --from-components); for images in colour.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    copies_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the contrastive loss that trains the part for copies (--copies-part): each image must "
            "recognise an altered view of itself; 1 for grey images, 0 in colour.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    label_weight: Annotated[
        float | None,
        typer.Option(help="Weight of a classification head, which the export drops.", rich_help_panel=RECIPE),
    ] = None,
    moved: Annotated[
        float | None,
        typer.Option(
            help="Strength, 0 to 1, at which partners are mirrored, turned, zoomed and shifted.", rich_help_panel=RECIPE
        ),
    ] = None,
    spoiled: Annotated[
        float | None,
        typer.Option(
            help="Share of images that are blurred, darkened, noisy or covered in part.", rich_help_panel=RECIPE
        ),
    ] = None,
    from_components: Annotated[
        bool | None,
        typer.Option(
            "--from-components/--from-random",
            help="Start the latents at principal components, or at random.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    copies_part: Annotated[
        bool | None,
        typer.Option(
            "--copies-part/--one-part",
            help="Reserve some floats of the latents for finding altered copies, above all with --views.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    patches: Annotated[
        int | None,
        typer.Option(
            help="Number of typical patches to look for beside the gradients, 0 for none; for grey images.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Schedule of the learning rate: cosine or constant.", rich_help_panel=RECIPE)
    ] = None,
    scaled: Annotated[
        bool | None,
        typer.Option(
            "--scaled/--not-scaled", help="Centre and scale the latents after the training.", rich_help_panel=RECIPE
        ),
    ] = None,
    only: Only = None,
    report_precision: Annotated[
        bool,
        typer.Option("--report-precision", help="Report precision@10 of labelled, held-out images after each epoch."),
    ] = False,
    strict: Strict = False,
) -> None:
    """Train an autoencoder on SOURCE. After a kill, the same command continues where the training stopped."""
    size = parse_image_size(image_size)
    load_tensorflow()
    from ae_search.training import TrainingOptions

    options = TrainingOptions(
        # What these seven can be is checked with the rest, and told by the name of the option.
        architecture=cast("Architecture | None", architecture),
        input_range=cast("InputRange | None", input_range),
        cache=cast("Cache", cache),
        fit=cast("Fit", fit),
        partner=cast("Partner | None", partner),
        recipe=cast("RecipeName", recipe),
        schedule=cast("Schedule | None", schedule),
        backbone=backbone,
        finetune=finetune,
        epochs=epochs,
        batch_size=batch_size,
        latent_dim=latent_dim,
        image_size=size,
        channels=channels,
        learning_rate=learning_rate,
        validation=validation,
        seed=seed,
        patience=patience,
        time_limit_s=time_limit,
        devices=devices,
        pixels=pixel_weight,
        gradients=gradient_weight,
        colours=colour_weight,
        features=feature_weight,
        contrast=contrast_weight,
        kept=kept_weight,
        copies=copies_weight,
        labels=label_weight,
        moved=moved,
        spoiled=spoiled,
        from_components=from_components,
        copies_part=copies_part,
        patches=patches,
        scaled=scaled,
    )
    run_training(source, run, options, only=only or (), flags=flags, report_precision=report_precision, strict=strict)


def run_training(
    source: str,
    run: Path,
    options: "TrainingOptions",
    *,
    only: Sequence[str] = (),
    flags: SourceFlags = _NO_FLAGS,
    report_precision: bool = False,
    strict: bool = False,
) -> dict[str, object]:
    """Train and draw samples.png and reconstructions.png in the run folder; return the summary."""
    load_tensorflow()
    from ae_search.plots import plot_samples
    from ae_search.training import configure
    from ae_search.training import train as fit
    from ae_search.training.advice import BACKBONE_ADVICE, of_coloured_photographs

    images = flags.open(source, only)
    config = configure(images, options)
    if options.architecture is None and options.backbone is None and of_coloured_photographs(images):
        say(BACKBONE_ADVICE, err=True)
    summary = fit(images, config, run, report_precision=report_precision, strict=strict, progress=progress)
    tell_truncated(cast("list[str]", summary.get("truncated", [])))
    plot_samples(images, run / "samples.png")
    draw_reconstructions(run, images)
    best = f"epoch {summary['best_epoch'] or '?'}, of the lowest {summary['monitor']}, {summary['best_loss']:.4f}"
    say(
        f"{run}: {summary['epochs']} of {config.epochs} epochs; exported will be {best}; last loss of the pixels "
        f"{summary['loss']:.4f}, {len(summary['damaged'])} damaged images left out"
    )
    return summary


def draw_reconstructions(run: Path, source: object, count: int = 10) -> None:
    """Write reconstructions.png of a run: images of the source above what the autoencoder makes of them."""
    import keras
    import numpy as np

    from ae_search.data.pipeline import first_images
    from ae_search.plots import plot_reconstructions
    from ae_search.training import load_autoencoder, read_config

    config = read_config(run)
    originals = first_images(source, config.image_shape, count, fit=config.fit)  # type: ignore[arg-type]
    logits = keras.ops.convert_to_numpy(load_autoencoder(run)(originals, training=False))
    plot_reconstructions(originals, 1.0 / (1.0 + np.exp(-logits)), run / "reconstructions.png")
