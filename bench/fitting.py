"""What `train` gives to `model.fit`, for those who measure `fit` itself."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ae_search.data import ArraySource, open_source
from ae_search.training.configuring import configure
from ae_search.training.fit import fit
from ae_search.training.options import TrainingOptions
from ae_search.training.preparation import Prepared, prepare
from ae_search.training.run_folder import prepare_run


def prepare_fashion(options: Mapping[str, Any], items: int | None) -> tuple[Prepared, float]:
    """Do what `train` does before `fit`, for the training images of Fashion-MNIST.

    Args:
        options: Fields of `TrainingOptions`.
        items: How many of the images, the first ones; None for all.

    Returns:
        What is to be fitted, and the seconds that it took to prepare.
    """
    source = open_source("fashion_mnist/train")
    assert isinstance(source, ArraySource)
    source = replace(source, images=source.images[:items], labels=source.labels[:items])
    config = configure(source, TrainingOptions(**options))
    began = time.perf_counter()
    prepared = prepare(source, config)
    return prepared, time.perf_counter() - began


def fit_for(prepared: Prepared, run: Path, epochs: int, more: Sequence[Any]) -> None:
    """Call `fit` as `train` does, with other epochs and further callbacks.

    Args:
        prepared: What is trained, and by what.
        run: An empty run folder.
        epochs: Epochs.
        more: The callbacks.
    """
    prepared = replace(prepared, config=replace(prepared.config, epochs=epochs))
    prepare_run(run, prepared.config)
    fit(prepared, run, verbose=False, more=more)
