"""Adam in one operation for each variable: Keras takes a dozen, each of which reads and writes memory."""

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam, but for the rounding: its variables are the same, and are saved and read alike."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable and its moments in place."""
        at = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        # A variable of Keras, or one of TensorFlow that Keras has unwrapped.
        target, momentum, velocity = (
            getattr(one, "value", one) if isinstance(one, keras.Variable) else one
            for one in (variable, self._momentums[at], self._velocities[at])
        )
        tf.raw_ops.ResourceApplyAdam(
            var=target.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
