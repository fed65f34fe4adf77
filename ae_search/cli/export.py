"""`ae-search export`."""

from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.options import load_tensorflow, parse_image_size
from ae_search.cli.terminal import say
from ae_search.errors import ConfigurationError


def export(
    to: Annotated[Path, typer.Option(metavar="EXPORT", help="Model base path, for example export/fashion.")],
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder of `ae-search train`.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .keras encoder of your own, in place of RUN.")
    ] = None,
    weights: Annotated[str, typer.Option(help="best or last weights of the run.")] = "best",
    metric: Annotated[str, typer.Option(help="Distance between latents: angular or euclidean.")] = "angular",
    image_size: Annotated[str | None, typer.Option(metavar="HxW", help="For an encoder with open sides.")] = None,
) -> None:
    """Export the encoder of RUN as the next version of a SavedModel for TensorFlow Serving."""
    if (run is None) == (encoder is None):
        raise ConfigurationError("Give either a RUN folder or --encoder FILE, one of them.")
    if weights not in ("best", "last"):
        raise ConfigurationError(f"--weights must be best or last. Received: {weights}.")
    size = parse_image_size(image_size)
    if size and run:
        raise ConfigurationError("--image-size goes with --encoder; a RUN has its own.")
    folder = export_run(run, to, weights, metric) if run else _export_file(encoder, to, metric, size)
    say(f"exported {folder}")


def export_run(run: Path, to: Path, weights: str = "best", metric: str = "angular") -> Path:
    """Export the encoder of a finished run; return the version folder."""
    import json

    load_tensorflow()
    from ae_search.export import export_encoder
    from ae_search.training import load_autoencoder, read_config

    read_config(run)
    if not (run / "summary.json").is_file():
        raise ConfigurationError(f"The training in {run} has not ended; run its `ae-search train` command again.")
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    encoder = load_autoencoder(run, weights).get_layer("encoder")
    figures = {name: summary[name] for name in ("epochs", "loss", "best_loss", "monitor", "images")}
    return export_encoder(encoder, to, metric=metric, data=summary["data"], training=figures)  # type: ignore[arg-type]


def _export_file(path: Path | None, to: Path, metric: str, size: tuple[int, int] | None) -> Path:
    load_tensorflow()
    from ae_search.export import export_encoder, load_encoder

    assert path is not None
    encoder = load_encoder(path)
    shape = (*size, int(encoder.input_shape[-1] or 3)) if size else None
    return export_encoder(encoder, to, image_shape=shape, metric=metric)  # type: ignore[arg-type]
