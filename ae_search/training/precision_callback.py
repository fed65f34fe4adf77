"""How good retrieval is while the training goes on."""

from typing import Any

import keras
import numpy as np

from ae_search.data import Source
from ae_search.data.pipeline import Images, Positions
from ae_search.data.sources import class_counts
from ae_search.errors import ConfigurationError
from ae_search.nearest import top_k
from ae_search.precision import precision
from ae_search.training.config import TrainingConfig
from ae_search.training.devices import for_one_device
from ae_search.training.observed_batches import Measured

DATABASE = 5_000
QUERIES = 1_000
K = 10


def check_labels(source: Source, config: TrainingConfig) -> None:
    """Hold a source and a configuration to what precision needs.

    Raises:
        ConfigurationError: No image has a label, or none is held out.
    """
    if not class_counts(source) or not config.validation:
        raise ConfigurationError(
            "--report-precision needs images with labels, and some of them held out (--validation). "
            f"Received: {source.name} with {len(class_counts(source))} classes, --validation {config.validation:g}."
        )


class PrecisionOfSample(keras.callbacks.Callback):
    """Adds `val_precision_at_10` to the history: of held-out images among a sample of those trained on, by cosine.

    Args:
        autoencoder: What is trained, with a layer "encoder".
        images: The images, or what was measured of them; what encodes them at some positions.
        kept: Positions trained on; 5,000 of them are searched.
        held_out: Positions held out; 1,000 of them are searched for.

    Raises:
        ConfigurationError: None of either has a label.
    """

    def __init__(self, autoencoder: Any, images: Images | Measured, kept: Positions, held_out: Positions) -> None:
        super().__init__()
        self.encoder = for_one_device(autoencoder.get_layer("encoder"))
        labels = np.array(images.source.labels, object)
        if not len(_labelled(kept, labels)) or not len(_labelled(held_out, labels)):
            raise ConfigurationError(
                "precision@10 needs labelled images among those trained on and those held out. "
                f"Received: {len(_labelled(kept, labels))} and {len(_labelled(held_out, labels))}."
            )
        self.images = images
        self.positions = [
            np.sort(_labelled(part, labels)[:count]) for part, count in ((kept, DATABASE), (held_out, QUERIES))
        ]
        self.labels = [labels[part] for part in self.positions]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Search, and write down the share of neighbours that have the query's label."""
        items, queries = (self.images.encoded(self.encoder, part) for part in self.positions)
        found = top_k(queries, items, min(K, len(items)), "angular")
        hits = self.labels[0][found] == self.labels[1][:, None]
        (logs if logs is not None else {})["val_precision_at_10"] = float(precision(hits).mean())


def _labelled(positions: Positions, labels: Any) -> Positions:
    """Return those of some positions that have a label, in a fixed random order."""
    chosen = [position for position in positions if labels[position] is not None]
    return np.random.default_rng(0).permutation(np.array(chosen, np.int64))
