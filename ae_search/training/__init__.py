"""Compile, `fit`, callbacks and the run folder."""

from ae_search.training.config import TrainingConfig
from ae_search.training.configuring import configure
from ae_search.training.fit import train
from ae_search.training.options import TrainingOptions
from ae_search.training.run_folder import load_autoencoder, read_config

__all__ = [
    "TrainingConfig",
    "TrainingOptions",
    "configure",
    "load_autoencoder",
    "read_config",
    "train",
]
