"""`ae-search export`."""

import importlib
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ae_search.cli.options import load_tensorflow, parse_image_size
from ae_search.cli.terminal import say
from ae_search.errors import ConfigurationError

CustomObjects = Annotated[
    list[str] | None,
    typer.Option(
        "--custom-objects",
        metavar="MODULE[:NAME]",
        help="Imports and runs that Python module, which has a layer or model class of FILE; repeatable. NAME may be "
        "left out where the module registers the class with Keras.",
    ),
]


def export(
    to: Annotated[Path, typer.Option(metavar="EXPORT", help="Model base path, for example export/fashion.")],
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder of `ae-search train`.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .keras encoder of your own, in place of RUN.")
    ] = None,
    weights: Annotated[str, typer.Option(help="best or last weights of the run.")] = "best",
    metric: Annotated[str, typer.Option(help="Distance between latents: angular or euclidean.")] = "angular",
    image_size: Annotated[
        str | None, typer.Option(metavar="HxW[xC]", help="For an encoder with an open shape; C is 3 unless given.")
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(help="Values that the encoder wants: 0-1, 0-255 or -1-1. Else what its first layers say, or 0-1."),
    ] = None,
    custom_objects: CustomObjects = None,
) -> None:
    """Export the encoder of RUN as the next version of a SavedModel for TensorFlow Serving."""
    if (run is None) == (encoder is None):
        raise ConfigurationError("Give either a RUN folder or --encoder FILE, one of them.")
    if weights not in ("best", "last"):
        raise ConfigurationError(f"--weights must be best or last. Received: {weights}.")
    if run:
        own = {"--image-size": image_size, "--input-range": input_range, "--custom-objects": custom_objects}
        for option in [name for name, value in own.items() if value]:
            raise ConfigurationError(f"{option} goes with --encoder; a RUN has its own.")
        folder = export_run(run, to, weights, metric)
    else:
        assert encoder is not None
        loaded, shape = _load(encoder, image_size, custom_objects or [])
        from ae_search.export import export_encoder

        options: dict[str, Any] = {"image_shape": shape, "input_range": input_range, "metric": metric}
        folder = export_encoder(loaded, to, **options)
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
    return export_encoder(
        encoder,
        to,
        input_range="0-1",
        metric=metric,  # type: ignore[arg-type]
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
    from ae_search.export.failures import said_as

    found = {}
    for text in names:
        module, _, name = text.partition(":")
        with said_as(ConfigurationError, f"--custom-objects takes MODULE or MODULE:NAME. {text} cannot be imported"):
            imported = importlib.import_module(module)
            if name:
                found[name] = getattr(imported, name)
    return found
