"""What one step of the training is made of; the function is a job for a process of its own."""

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ae_search.model.gradients import MEASURED
from ae_search.model.heads import PARTNER
from bench.fitting import prepare_fashion

CALLS, TURNS = 20, 5


def parts(options: dict[str, Any], items: int | None) -> dict[str, float]:
    """Measure the parts of a step, each by itself, on one batch.

    Args:
        options: What `configure` is told.
        items: Images; None for all.

    Returns:
        Milliseconds a batch of what is measured of the images, without learning; of the rest of the forward pass and
        of the backward pass; of the optimiser, as it is and as Keras has it. Parameters that are trained, in millions.
    """
    prepared, _ = prepare_fashion(options, items)
    trainer = prepared.trainer
    ((inputs, targets),) = prepared.dataset().take(1)
    weights = trainer.trainable_variables

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            loss = trainer.compute_loss(y=targets, y_pred=trainer(inputs, training=True), training=True)
        return tape.gradient(loss, weights)

    found = tf.function(gradients)()
    own = keras.optimizers.Adam(1e-6)
    own.build(weights)
    measured = _measuring(trainer.get_layer("encoder"))
    images = [inputs[name] for name in ("image", PARTNER) if name in inputs]
    measured_ms = _ms(lambda: [measured(batch) for batch in images]) if measured else 0.0
    forward_ms = _ms(lambda: trainer(inputs, training=True))
    return {
        "measured": measured_ms,
        "forward": forward_ms - measured_ms,
        "backward": _ms(gradients) - forward_ms,
        "optimiser": _ms(lambda: trainer.optimizer.apply(found, weights)),
        "Keras's Adam": _ms(lambda: own.apply(found, weights)),
        "million parameters": sum(int(tf.size(weight)) for weight in weights) / 1e6,
    }


def _measuring(encoder: Any) -> Any:
    """Return the part of an encoder that learns nothing, None where there is none."""
    if MEASURED not in [layer.name for layer in encoder.layers]:
        return None
    return keras.Model(encoder.input, encoder.get_layer(MEASURED).output)


def _ms(call: Callable[[], Any]) -> float:
    """Return the milliseconds of a call as a graph, the least over some turns: others use the machine as well."""
    graph = tf.function(call)
    graph()
    turns = []
    for _ in range(TURNS):
        began = time.perf_counter()
        for _ in range(CALLS):
            graph()
        turns.append(time.perf_counter() - began)
    return 1e3 * min(turns) / CALLS
