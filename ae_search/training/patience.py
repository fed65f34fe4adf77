"""Which epoch is the best so far, and when to stop waiting for a better one."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import keras

# A quarter of the epochs, and not less than this. With 981 photographs and with Fashion-MNIST, no better epoch came
# more than 3 epochs after the best one so far.
LEAST_PATIENCE = 10


def default_patience(epochs: int) -> int:
    """Return the epochs without a better one after which a training of so many ends."""
    return max(LEAST_PATIENCE, epochs // 4)


@dataclass
class Best:
    """The best epoch so far.

    Attributes:
        loss: What it is chosen by; infinite before the first epoch.
        epoch: Which it is, from 1; 0 before the first.
        epochs: Epochs done.
    """

    loss: float = math.inf
    epoch: int = 0
    epochs: int = 0

    @classmethod
    def of(cls, losses: Iterable[float]) -> Self:
        """Return the best of the epochs with these losses."""
        best = cls()
        for loss in losses:
            best.add(loss)
        return best

    def add(self, loss: float) -> bool:
        """Take note of one more epoch, and tell whether it is the best: the first one is, whatever its loss."""
        self.epochs += 1
        if self.epoch and not loss < self.loss:
            return False
        self.loss, self.epoch = (math.inf if math.isnan(loss) else loss), self.epochs
        return True

    def exhausts(self, patience: int) -> bool:
        """Tell whether so many epochs, or more, have brought nothing better; never where patience is 0."""
        return 0 < patience <= self.epochs - self.epoch


class Patience(keras.callbacks.Callback):
    """Ends a training that no longer gets better.

    Args:
        best: The best epoch so far; another callback keeps it up to date.
        patience: Epochs to wait for a better one, 0 for all of them.
    """

    def __init__(self, best: Best, patience: int) -> None:
        super().__init__()
        self.best, self.patience = best, patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop where there was no better epoch for so long."""
        if self.best.exhausts(self.patience):
            self.model.stop_training = True
