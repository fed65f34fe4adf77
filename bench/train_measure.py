"""The measurements of training; each function is a job for a process of its own."""

import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ae_search.model.heads import PARTNER, PARTNERS
from ae_search.training.compiling import compile_trainer
from ae_search.training.preparation import Prepared
from bench.fitting import fit_for, prepare_fashion

# Images that the loss of the pixels is measured on: some of those trained on.
SAMPLE = 2000
# The forward pass, and twice as much for the gradients of inputs and of weights.
PASSES = 3
MATMUL_SIDE = 2048
MATMULS = 15


def reach(options: dict[str, Any], items: int | None, target: float) -> dict[str, Any]:
    """Train until the loss of the pixels is as low as asked, or all epochs are over.

    Args:
        options: What `configure` is told.
        items: Images; None for all.
        target: Mean sigmoid cross-entropy a pixel value.

    Returns:
        `fit_s`: seconds of `fit` until then, None if it never was; `spent_s`: seconds of `fit` in all; `prepared_s`:
        seconds before it; `images` trained on; the lowest `loss`; the `curve` of seconds and losses.
    """
    prepared, prepared_s = prepare_fashion(options, items)
    clock = _UntilLoss(prepared, target)
    with tempfile.TemporaryDirectory() as folder:
        fit_for(prepared, Path(folder), prepared.config.epochs, [clock])
    return {
        "fit_s": clock.reached_s,
        "spent_s": clock.curve[-1][0],
        "prepared_s": prepared_s,
        "images": (len(clock.curve) - 1) * prepared.at_once * prepared.config.batch_size,
        "loss": min(loss for _, loss in clock.curve),
        "curve": [list(point) for point in clock.curve],
    }


class _UntilLoss(keras.callbacks.Callback):
    """Measures the loss of the pixels after each execution, with the clock stopped, until it is as low as asked."""

    def __init__(self, prepared: Prepared, target: float) -> None:
        super().__init__()
        chosen = np.sort(np.random.default_rng(0).permutation(prepared.kept)[:SAMPLE])
        ((_, images),) = prepared.images.batches(chosen, SAMPLE).as_numpy_iterator()
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self.measure = tf.function(lambda: loss(images, prepared.autoencoder(images, training=False)))
        # Traced here, before the clock runs.
        self.curve = [(0.0, float(self.measure()))]
        self.target = target
        self.began = time.perf_counter()

    @property
    def reached_s(self) -> float | None:
        """Seconds at which the target was reached, on a straight line between two measurements; None if it was not."""
        if self.curve[-1][1] > self.target:
            return None
        (early, high), (late, low) = self.curve[-2:]
        return late - (late - early) * (self.target - low) / (high - low)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, and stop where it is enough."""
        now = time.perf_counter()
        self.curve.append((now - self.began, float(self.measure())))
        self.model.stop_training = self.curve[-1][1] <= self.target
        self.began += time.perf_counter() - now


def speed(options: dict[str, Any], items: int | None, epochs: int) -> dict[str, float]:
    """Measure `fit` against a bare loop and the machine's arithmetic, and what its parts take.

    Args:
        options: What `configure` is told.
        items: Images; None for all.
        epochs: Epochs that are measured, after a first one.

    Returns:
        Wall and CPU milliseconds a batch: of `fit` as `train` calls it, of `fit` without validation and callbacks, of
        a loop of `train_on_batch`, of the dataset alone, and of training on the same batch again and again. Images a
        batch; multiply-adds an image, and those a second of a matrix product.
    """
    prepared, _ = prepare_fashion(options, items)
    figures: dict[str, float] = {
        "batch_size": prepared.config.batch_size,
        "multiply_adds": PASSES * multiply_adds(prepared.trainer, prepared.config.batch_size),
        "multiply_adds_per_s": matmul_rate(tf.float32),
        "multiply_adds_per_s_bfloat16": matmul_rate(tf.bfloat16),
    }
    ((_, batch),) = enumerate(prepared.dataset().take(1))
    same = tf.data.Dataset.from_tensors(batch).repeat()
    with tempfile.TemporaryDirectory() as folder:
        figures |= _by_epochs("fit", prepared, lambda more: fit_for(prepared, Path(folder), 1 + epochs, [more]))
    for name, dataset in (("bare_fit", prepared.dataset()), ("steps", same)):
        figures |= _by_epochs(name, prepared, lambda more, dataset=dataset: _fit(prepared, dataset, 1 + epochs, more))
    figures |= _by_turns("pipeline", prepared, epochs, prepared.dataset(), lambda _: None)
    compile_trainer(prepared.trainer, prepared.config, 1)
    return figures | _by_turns(
        "loop", prepared, epochs, prepared.dataset(), lambda batch: prepared.trainer.train_on_batch(*batch)
    )


def variant(
    options: dict[str, Any],
    items: int | None,
    epochs: int,
    *,
    at_once: int | None = None,
    policy: str = "float32",
    jit: bool = False,
) -> dict[str, float]:
    """Measure `fit` without validation and callbacks.

    Args:
        options: What `configure` is told.
        items: Images; None for all.
        epochs: Epochs that are measured, after a first one.
        at_once: Batches an execution; None for the default.
        policy: Keras's dtype policy.
        jit: Whether XLA compiles the step.

    Returns:
        Images a second, `per_s`, and by how many seconds the first epoch took longer than the others, `start_s`.
    """
    keras.mixed_precision.set_dtype_policy(policy)
    prepared, _ = prepare_fashion(options, items)
    if at_once:
        compile_trainer(prepared.trainer, prepared.config, at_once)
    prepared.trainer.jit_compile = jit
    clock = _Epochs()
    _fit(prepared, prepared.dataset(), 1 + epochs, clock)
    first_s, *others_s = np.diff(clock.clock, axis=0)[:, 0]
    epoch_s = float(np.median(others_s))
    return {"per_s": prepared.steps * prepared.config.batch_size / epoch_s, "start_s": float(first_s) - epoch_s}


def multiply_adds(trainer: Any, batch_size: int) -> int:
    """Count the multiply-adds of a trainer's dense and convolutional layers for one image, forward."""
    inner = {layer.name: layer for layer in trainer.layers if hasattr(layer, "layers")}
    total = sum(_multiply_adds(part) for model in inner.values() for part in model.layers)
    if PARTNER in trainer.input:
        # The partner is encoded too, and every latent is compared with every partner of its batch.
        encoder = inner["encoder"]
        total += sum(map(_multiply_adds, encoder.layers)) + batch_size * encoder.output_shape[1]
        assert PARTNERS in trainer.output
    return total


def _multiply_adds(layer: Any) -> int:
    if not isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
        return 0
    # The kernel's last axis is that of the output: each output needs as many as there are in front of it.
    return int(np.prod(layer.output.shape[1:]) * np.prod(layer.kernel.shape[:-1]))


def matmul_rate(dtype: Any) -> float:
    """Return the multiply-adds a second of a large matrix product on all cores."""
    one = tf.cast(tf.random.normal((MATMUL_SIDE, MATMUL_SIDE)), dtype)
    seconds = []
    for _ in range(MATMULS):
        began = time.perf_counter()
        tf.matmul(one, one).numpy()
        seconds.append(time.perf_counter() - began)
    return MATMUL_SIDE**3 / min(seconds)


class _Epochs(keras.callbacks.Callback):
    """Wall and CPU seconds at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.clock: list[tuple[float, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the clock: what is done after an epoch counts as part of it."""
        self.clock.append(_clock())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Look at the clock."""
        self.clock.append(_clock())


def _fit(prepared: Prepared, dataset: Any, epochs: int, more: Any) -> None:
    prepared.trainer.fit(
        dataset, steps_per_epoch=prepared.steps, epochs=epochs, shuffle=False, verbose=0, callbacks=[more]
    )


def _by_epochs(name: str, prepared: Prepared, fit: Callable[[Any], None]) -> dict[str, float]:
    """Return medians over the epochs of a `fit` but the first."""
    epochs = _Epochs()
    fit(epochs)
    return _medians(name, epochs.clock[1:], prepared.steps)


def _by_turns(
    name: str, prepared: Prepared, turns: int, dataset: Any, use: Callable[[Any], object]
) -> dict[str, float]:
    """Return medians over some passes through a dataset, after a first one."""
    batches: Iterator[Any] = iter(dataset)
    clock = []
    for _ in range(1 + turns):
        for batch in itertools.islice(batches, prepared.steps):
            use(batch)
        clock.append(_clock())
    return _medians(name, clock, prepared.steps)


def _medians(name: str, clock: list[tuple[float, float]], steps: int) -> dict[str, float]:
    wall, cpu = np.median(np.diff(clock, axis=0), axis=0) * 1e3 / steps
    return {f"{name}_ms": float(wall), f"{name}_cpu_ms": float(cpu)}


def _clock() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
