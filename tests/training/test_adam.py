"""Adam in one operation: the same steps as Keras's own, from the same state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ae_search.training.adam import FusedAdam

STEPS = 20


def taken(optimizer, gradients):
    variables = [keras.Variable(np.full(shape, 0.5, np.float32)) for shape in ((3, 4), (5,))]
    optimizer.build(variables)
    step = tf.function(lambda grads: optimizer.apply(grads, variables))
    for at, grads in enumerate(gradients):
        optimizer.learning_rate.assign(0.01 / (1 + at))
        step([tf.constant(grad) for grad in grads])
    return [variable.numpy() for variable in [*variables, *optimizer.variables]]


@pytest.fixture(scope="module")
def gradients():
    rng = np.random.default_rng(3)
    scale = 10.0 ** rng.uniform(-4, 2, STEPS)
    return [[rng.normal(0, at, shape).astype(np.float32) for shape in ((3, 4), (5,))] for at in scale]


def test_its_steps_and_its_state_are_those_of_keras(gradients):
    ours, theirs = (taken(kind(0.01), gradients) for kind in (FusedAdam, keras.optimizers.Adam))
    assert len(ours) == len(theirs) == 2 + 2 + 2 * 2
    assert np.abs(theirs[0] - 0.5).max() > 0.01
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-7)


def test_each_reads_the_state_of_the_other(gradients):
    first, second = FusedAdam(0.01), keras.optimizers.Adam(0.01)
    assert [one.path.split("/")[-1] for one in _built(first)] == [one.path.split("/")[-1] for one in _built(second)]


def _built(optimizer):
    optimizer.build([keras.Variable(np.zeros(3, np.float32), name="weights")])
    return optimizer.variables
