"""`ae-search train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.options import Only, load_tensorflow, parse_image_size
from ae_search.cli.terminal import say

RECIPE = "Recipe (what is not given depends on the architecture)"


def train(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Built-in data set (fashion_mnist) or folder.")],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder; a killed training resumes from it.")],
    architecture: Annotated[str, typer.Option(help="gradients, conv or tutorial.")] = "gradients",
    epochs: Annotated[int | None, typer.Option(help="In all: 24 to 60 by the number of images; tutorial 20.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a batch: up to 256, tutorial 400.")] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Floats in a latent: 128; tutorial has its own.")] = None,
    image_size: Annotated[str | None, typer.Option(metavar="HxW", help="64x64 for folders.")] = None,
    channels: Annotated[int | None, typer.Option(help="1 grey or 3 colour; the source's own, 3 for folders.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam: 0.003, or 0.001 for tutorial.")] = None,
    validation: Annotated[float | None, typer.Option(help="Share held out: 0.05, or 0 for tutorial.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, shuffle and hold-out.")] = 42,
    cache: Annotated[str, typer.Option(help="Decoded images in memory: auto (up to 1 GiB), memory, none.")] = "auto",
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", help="End near so many seconds.")] = None,
    pixel_weight: Annotated[
        float | None, typer.Option(help="Of the reconstruction of the pixels.", rich_help_panel=RECIPE)
    ] = None,
    gradient_weight: Annotated[
        float | None, typer.Option(help="Of a second decoder, for oriented gradients.", rich_help_panel=RECIPE)
    ] = None,
    colour_weight: Annotated[
        float | None, typer.Option(help="Of a third decoder, for a histogram of colours.", rich_help_panel=RECIPE)
    ] = None,
    contrast_weight: Annotated[
        float | None, typer.Option(help="Of likeness to a partner among others.", rich_help_panel=RECIPE)
    ] = None,
    partner: Annotated[
        str | None, typer.Option(help="neighbour (images in memory), or view: itself.", rich_help_panel=RECIPE)
    ] = None,
    label_weight: Annotated[
        float | None, typer.Option(help="Of a classification head, dropped at export.", rich_help_panel=RECIPE)
    ] = None,
    moved: Annotated[
        float | None, typer.Option(help="Mirror, turn, zoom and shift partners, 0 to 1.", rich_help_panel=RECIPE)
    ] = None,
    spoiled: Annotated[
        float | None, typer.Option(help="Share blurred, darkened, noisy or with a spot.", rich_help_panel=RECIPE)
    ] = None,
    from_components: Annotated[
        bool | None,
        typer.Option("--from-components/--from-random", help="Begin at principal components.", rich_help_panel=RECIPE),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: cosine or constant.", rich_help_panel=RECIPE)
    ] = None,
    scaled: Annotated[
        bool | None, typer.Option("--scaled/--not-scaled", help="Centre and scale latents.", rich_help_panel=RECIPE)
    ] = None,
    only: Only = None,
    report_precision: Annotated[
        bool, typer.Option("--report-precision", help="Add precision@10 of held-out images with labels.")
    ] = False,
) -> None:
    """Train an autoencoder on SOURCE; the same command goes on where a killed one stopped."""
    size = parse_image_size(image_size)
    run_training(
        source,
        run,
        only=only or (),
        report_precision=report_precision,
        architecture=architecture,
        epochs=epochs,
        batch_size=batch_size,
        latent_dim=latent_dim,
        image_size=size,
        channels=channels,
        learning_rate=learning_rate,
        validation=validation,
        seed=seed,
        cache=cache,
        time_limit_s=time_limit,
        pixels=pixel_weight,
        gradients=gradient_weight,
        colours=colour_weight,
        contrast=contrast_weight,
        partner=partner,
        labels=label_weight,
        moved=moved,
        spoiled=spoiled,
        from_components=from_components,
        schedule=schedule,
        scaled=scaled,
    )


def run_training(
    source: str, run: Path, *, only: Sequence[str] = (), report_precision: bool = False, **options: object
) -> dict[str, object]:
    """Train and draw samples.png and reconstructions.png in the run folder; return the summary."""
    load_tensorflow()
    from ae_search.data import FolderSource, open_source
    from ae_search.plots import plot_samples
    from ae_search.training import configure
    from ae_search.training import train as fit

    images = open_source(source, only=only)
    if isinstance(images, FolderSource) and images.skipped:
        say(f"skipped {images.skipped} files that are no images", err=True)
    config = configure(images, **options)  # type: ignore[arg-type]
    summary = fit(images, config, run, report_precision=report_precision)
    plot_samples(images, run / "samples.png")
    draw_reconstructions(run, images)
    say(
        f"{run}: {summary['epochs']} epochs, loss of the pixels {summary['loss']:.4f}, best {summary['monitor']} "
        f"{summary['best_loss']:.4f}, {len(summary['damaged'])} damaged images left out"
    )
    return summary


def draw_reconstructions(run: Path, source: object, count: int = 10) -> None:
    """Write reconstructions.png of a run: images of the source above what the autoencoder makes of them."""
    import keras
    import numpy as np

    from ae_search.data.pipeline import first_images
    from ae_search.plots import plot_reconstructions
    from ae_search.training import load_autoencoder, read_config

    originals = first_images(source, read_config(run).image_shape, count)  # type: ignore[arg-type]
    logits = keras.ops.convert_to_numpy(load_autoencoder(run)(originals, training=False))
    plot_reconstructions(originals, 1.0 / (1.0 + np.exp(-logits)), run / "reconstructions.png")
