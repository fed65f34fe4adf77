"""The blocks of a network, whatever it is, so that the last ones can be thawed."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ae_search.errors import ConfigurationError


@dataclass(frozen=True)
class Thawed:
    """What is trained of a backbone.

    Attributes:
        blocks: Blocks of it that are trained.
        of: All its blocks.
        first: Name of the first layer with weights that is trained.
        weights: Numbers that are trained.
    """

    blocks: int
    of: int
    first: str
    weights: int


def thaw(network: Any, count: int) -> Thawed:
    """Let the last blocks of a network be trained, and nothing else of it.

    A block is what lies between two places where a single tensor holds all that is known of the image, as before and
    after a residual block, and has a layer with a kernel; a normalisation or an activation alone belongs to the block
    before it. Batch normalisations stay as they are: small batches of few images would spoil what they know.

    Args:
        network: Functional model.
        count: Blocks, at least 1.

    Raises:
        ConfigurationError: It has fewer.
    """
    blocks = blocks_of(network)
    if not 1 <= count <= len(blocks):
        raise ConfigurationError(
            f"--finetune must be 1 to {len(blocks)}, the blocks of the backbone. Received: {count}."
        )
    network.trainable = False
    chosen = [layer for block in blocks[-count:] for layer in block]
    for layer in chosen:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    _let_through(network, {id(layer) for layer in chosen})
    trained = [layer for layer in chosen if layer.trainable_weights]
    size = sum(int(np.prod(weight.shape)) for layer in trained for weight in layer.trainable_weights)
    return Thawed(count, len(blocks), trained[0].name, size)


def blocks_of(network: Any) -> list[list[Any]]:
    """Return the layers with weights of each block of a functional model, from the image on."""
    blocks: list[list[Any]] = []
    for segment in _segments(network):
        if len(segment) == 1 and isinstance(segment[0], keras.Model):
            blocks += blocks_of(_graph(segment[0]))
            continue
        layers = [one for one in segment if isinstance(one, keras.Layer) and one.weights]
        if any(_has_kernel(layer) for layer in layers):
            blocks.append(layers)
        elif blocks:
            blocks[-1] += layers
    return blocks


def _graph(model: Any) -> Any:
    """Return a functional model as it is, and what a sequential one is made of."""
    return model._functional if isinstance(model, keras.Sequential) else model


def _segments(network: Any) -> list[list[Any]]:
    """Return the operations between each two places where one tensor holds all."""
    operations = list(network.operations)
    order = {id(operation): at for at, operation in enumerate(operations)}
    # How far on the output of each operation is still needed.
    last_use = list(range(len(operations)))
    for node in (node for operation in operations for node in _nodes(network, operation)):
        for parent in node.parent_nodes:
            at = order.get(id(parent.operation))
            if at is not None:
                last_use[at] = max(last_use[at], order[id(node.operation)])
    segments: list[list[Any]] = [[]]
    needed_until = 0
    for at, operation in enumerate(operations):
        segments[-1].append(operation)
        if needed_until <= at:
            segments.append([])
        needed_until = max(needed_until, last_use[at])
    return [segment for segment in segments if segment]


def _nodes(network: Any, operation: Any) -> list[Any]:
    """Return the calls of an operation within this network: a layer may be called elsewhere, too."""
    inside = {id(node) for nodes in network._nodes_by_depth.values() for node in nodes}
    return [node for node in operation._inbound_nodes if id(node) in inside]


def _has_kernel(layer: Any) -> bool:
    return any(len(weight.shape) >= 2 for weight in layer.weights)


def _let_through(model: Any, chosen: set[int]) -> bool:
    """Let each model say that it is trained where a layer in it is: of one that is not, Keras trains nothing."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    found = any([_let_through(one, chosen) for one in inner])
    found = found or any(id(layer) in chosen for layer in model.layers)
    model._trainable = found
    return found
