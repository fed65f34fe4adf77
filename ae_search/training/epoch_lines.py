"""One line after each epoch, for a person who waits."""

import logging
import statistics
from collections.abc import Callable
from typing import Any

import keras

log = logging.getLogger(__name__)

# The first epochs of a process take longer; the time left is told from the last ones.
_RECENT = 5


class EpochLines(keras.callbacks.Callback):
    """Logs epoch, loss, validation loss and the time that is left at most.

    Args:
        epochs: Epochs in all.
        time_left: Returns the seconds that a time limit leaves, None where there is no limit.
    """

    def __init__(self, epochs: int, time_left: Callable[[], float] | None = None) -> None:
        super().__init__()
        self.epochs, self.time_left = epochs, time_left
        self.seconds: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the line."""
        figures = logs or {}
        self.seconds.append(float(figures["seconds"]))
        losses = [
            f"{name} {figures[name]:.4f}" for name in ("loss", "val_loss", "val_precision_at_10") if name in figures
        ]
        told = [*losses, f"{figures['seconds']:.1f} s", self._left(self.epochs - epoch - 1)]
        log.info("epoch %d of %d: %s", epoch + 1, self.epochs, ", ".join(told))

    def _left(self, epochs: int) -> str:
        seconds = epochs * statistics.median(self.seconds[-_RECENT:])
        if self.time_left is not None:
            seconds = min(seconds, self.time_left())
        return f"{duration(seconds)} left at most" if epochs and seconds > 0 else "done"


def duration(seconds: float) -> str:
    """Return a time as a person says it, such as "45 s", "12 min" or "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
