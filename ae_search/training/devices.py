"""Several devices for one training: each takes its share of every batch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from ae_search.errors import ConfigurationError

# What a training builds within it is on all of its devices.
Scope = Callable[[], AbstractContextManager[Any]]


def on_one_device() -> AbstractContextManager[Any]:
    """Leave it to TensorFlow where a model is: on the first GPU, or on the CPU."""
    return nullcontext()


def check_devices(count: int) -> None:
    """Hold the devices that are asked for to those there are.

    Raises:
        ConfigurationError: There are fewer.
    """
    names = _names()
    if count > len(names):
        raise ConfigurationError(
            f"--devices must be at most {len(names)}, as TensorFlow sees {', '.join(names)} here. Received: {count}."
        )


def scope_of(count: int) -> Scope:
    """Return the scope to build a training's models and optimiser in.

    Args:
        count: Devices: GPUs, or logical CPUs where there is no GPU.

    Raises:
        ConfigurationError: There are fewer.
    """
    if count == 1:
        return on_one_device
    check_devices(count)
    names = _names()[:count]
    # Its own choice for CPUs is the same, with a warning.
    add_up = tf.distribute.ReductionToOneDevice() if "CPU" in names[0] else None
    strategy = tf.distribute.MirroredStrategy(names, cross_device_ops=add_up)
    return strategy.scope  # type: ignore[no-any-return]


def for_one_device(model: Any) -> Any:
    """Return a model of the same layers that predicts a batch once, where one of several devices does so on each."""
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return model
    return keras.Model(model.input, model.output, name=model.name)


def _names() -> list[str]:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]
