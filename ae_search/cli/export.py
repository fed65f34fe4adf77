"""`ae-search export`."""

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ae_search.cli.options import load_tensorflow, parse_image_size
from ae_search.cli.terminal import say
from ae_search.contract import Fit, Metric
from ae_search.errors import ConfigurationError

if TYPE_CHECKING:
    from ae_search.export import InputRange

CustomObjects = Annotated[
    list[str] | None,
    typer.Option(
        "--custom-objects",
        metavar="MODULE[:NAME]",
        help="Python module with a layer or model class of FILE, which is imported and run; repeatable. NAME may be "
        "left out if the module registers the class with Keras.",
    ),
]


def export(
    to: Annotated[Path, typer.Option(metavar="EXPORT", help="Model base path, such as export/fashion.")],
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder of `ae-search train`.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encoder of your own, a .keras file, in place of RUN.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Weights of the run: best or last.")] = "best",
    metric: Annotated[str, typer.Option(help="Distance between latents: angular or euclidean.")] = "angular",
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW[xC]", help="Size of the images, for an encoder that leaves it open; C is 3 unless given."
        ),
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(
            help="Range of pixel values that the encoder takes: 0-1, 0-255 or -1-1. By default, "
            "what its first layers say, or else 0-1."
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="Fit of images of another shape: crop, the default, or pad; a RUN has that of its training."),
    ] = None,
    custom_objects: CustomObjects = None,
    without_decoder: Annotated[
        bool,
        typer.Option(
            "--without-decoder",
            help="Leave out the decoder of RUN, so that nobody can turn latents back into images, nor explain a query.",
        ),
    ] = False,
) -> None:
    """Export the encoder of RUN, and its decoder, as the next version of a SavedModel for TensorFlow Serving."""
    if (run is None) == (encoder is None):
        raise ConfigurationError("Give either a RUN folder or --encoder FILE, one of them.")
    if weights not in ("best", "last"):
        raise ConfigurationError(f"--weights must be best or last. Received: {weights}.")
    if run:
        own: dict[str, object] = {"--image-size": image_size, "--input-range": input_range, "--fit": fit}
        own["--custom-objects"] = custom_objects
        for option in [name for name, value in own.items() if value]:
            raise ConfigurationError(f"{option} goes with --encoder; a RUN has its own.")
        folder = export_run(run, to, weights, metric, decoder=not without_decoder)
    else:
        assert encoder is not None
        if without_decoder:
            raise ConfigurationError("--without-decoder goes with a RUN; an encoder of your own comes without one.")
        loaded, shape = _load(encoder, image_size, custom_objects or [])
        from ae_search.export import export_encoder

        folder = export_encoder(
            loaded,
            to,
            image_shape=shape,
            # What these three can be is checked by the export.
            fit=cast(Fit, fit or "crop"),
            input_range=cast("InputRange | None", input_range),
            metric=cast(Metric, metric),
        )
    say(f"exported {folder}")


def export_run(run: Path, to: Path, weights: str = "best", metric: str = "angular", *, decoder: bool = True) -> Path:
    """Export the encoder of a finished run, with its decoder or without; return the version folder."""
    load_tensorflow()
    from ae_search.export import export_encoder
    from ae_search.training import load_autoencoder, read_config
    from ae_search.training.run_folder import read_summary

    config = read_config(run)
    summary = read_summary(run)
    autoencoder = load_autoencoder(run, weights)
    figures = {name: summary[name] for name in ("epochs", "best_epoch", "loss", "best_loss", "monitor", "images")}
    if config.backbone is not None:
        figures["backbone"] = config.backbone.summary()
    return export_encoder(
        autoencoder.get_layer("encoder"),
        to,
        decoder=autoencoder.get_layer("decoder") if decoder else None,
        input_range="0-1",
        metric=cast(Metric, metric),
        fit=config.fit,
        data=summary["data"],
        training=figures,
    )


def _load(path: Path, size: str | None, custom: list[str]) -> tuple[Any, tuple[int, int, int] | None]:
    """Return the encoder in a file, and the shape of its images where a size is given."""
    match = re.fullmatch(r"(\d+x\d+)x(\d+)", size or "")
    sides = parse_image_size(match[1] if match else size)
    load_tensorflow()
    from ae_search.export import declared_shape, load_encoder

    encoder = load_encoder(path, custom_objects=_imported(custom))
    channels = int(match[2]) if match else declared_shape(encoder)[2] or 3
    return encoder, (*sides, channels) if sides else None


def _imported(names: list[str]) -> dict[str, Any]:
    """Import modules, from the current folder too as `python -m` does, and return what is named in them."""
    if names and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    from ae_search.model.failures import said_as

    found = {}
    for text in names:
        module, _, name = text.partition(":")
        with said_as(ConfigurationError, f"--custom-objects takes MODULE or MODULE:NAME. {text} cannot be imported"):
            imported = importlib.import_module(module)
            if name:
                found[name] = getattr(imported, name)
    return found
