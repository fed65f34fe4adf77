"""What happens after each epoch, and how a killed training finds its place again."""

import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from ae_search.files import write_atomically
from ae_search.training.config import TrainingConfig
from ae_search.training.epoch_lines import EpochLines
from ae_search.training.patience import Best, Patience

# Below the run folder: the weights as `fit` leaves them, before they are scaled.
EPOCHS = "epochs"


def finished_epochs(run: Path) -> list[dict[str, str]]:
    """Return the rows of the epochs that need not be run again; the others are trimmed from the history."""
    return _trim_history(run / "history.csv", _mend_backup(run / "backup"))


def callbacks_for(
    run: Path,
    config: TrainingConfig,
    monitor: str,
    *,
    autoencoder: Any,
    steps: int,
    more: Sequence[Any] = (),
    verbose: bool = False,
) -> list[Any]:
    """Return the callbacks of one `fit`; a history with epochs that will be run again is trimmed.

    Args:
        run: The run folder.
        config: What is trained.
        monitor: "loss" or "val_loss", what the best weights are chosen by.
        autoencoder: What is saved; its weights are those that are trained.
        steps: Batches an epoch.
        more: Callbacks that add figures to the history.
        verbose: Log a line after each epoch.
    """
    rows = finished_epochs(run)
    best = best_of(rows, monitor)
    callbacks: list[Any] = [
        *more,
        _SaveBestAndLast(run / EPOCHS, monitor, best, autoencoder),
        keras.callbacks.CSVLogger(str(run / "history.csv"), append=bool(rows)),
        keras.callbacks.TensorBoard(str(run / "tensorboard"), profile_batch=0),
        Patience(best, config.patience),
    ]
    limit = (
        _TimeLimit(config.time_limit_s, sum(float(row["seconds"]) for row in rows))
        if config.time_limit_s is not None
        else None
    )
    if limit:
        callbacks.append(limit)
    if config.recipe.schedule == "cosine":
        callbacks.append(_Cosine(config.learning_rate, config.epochs, steps, limit))
    if verbose:
        callbacks.append(EpochLines(config.epochs, limit.left if limit else None))
    # Last, so that an epoch counts as done only when all others have written it down. Kept at the end, so that more
    # epochs can be asked for later.
    backup = str(run / "backup")
    callbacks.append(keras.callbacks.BackupAndRestore(backup, double_checkpoint=True, delete_checkpoint=False))
    return callbacks


def best_of(rows: Sequence[Mapping[str, str]], monitor: str) -> Best:
    """Return which of some rows of a history is the best."""
    return Best.of(_loss(row, monitor) for row in rows)


def _loss(row: Mapping[str, str], monitor: str) -> float:
    try:
        return float(row[monitor])
    except (KeyError, ValueError):
        return math.nan


def _mend_backup(backup: Path) -> int:
    """Return the finished epochs; a metadata file cut short by a kill is replaced by the one before."""
    metadata = backup / "training_metadata.json"
    previous = backup / "training_metadata.json.bkp"
    for path in (metadata, previous):
        try:
            text = path.read_text(encoding="utf-8")
            epoch = int(json.loads(text)["epoch"])
        except (OSError, ValueError, KeyError):
            continue
        if path is previous:
            write_atomically(metadata, text)
        return epoch
    metadata.unlink(missing_ok=True)
    return 0


def _trim_history(path: Path, epoch: int) -> list[dict[str, str]]:
    """Cut rows of epochs that will be run again; return those that stay."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        rows = [row for row in reader if (row["epoch"] or "").isdigit() and int(row["epoch"]) < epoch]
    text = "\n".join([",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]) + "\n"
    write_atomically(path, text)
    return rows


class _SaveBestAndLast(keras.callbacks.Callback):
    """Saves best.keras and last.keras, each by one rename: a kill leaves the file before."""

    def __init__(self, folder: Path, monitor: str, best: Best, autoencoder: Any) -> None:
        super().__init__()
        self.folder, self.monitor, self.best, self.autoencoder = folder, monitor, best, autoencoder
        self.began = 0.0
        folder.mkdir(exist_ok=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock of the epoch."""
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save, and add the epoch's seconds to what the history writes down."""
        logs = logs if logs is not None else {}
        logs["seconds"] = round(time.monotonic() - self.began, 3)
        write_atomically(self.folder / "last.keras", self.autoencoder.save)
        if self.best.add(logs[self.monitor]) or not (self.folder / "best.keras").exists():
            write_atomically(self.folder / "best.keras", self.autoencoder.save)


class _TimeLimit(keras.callbacks.Callback):
    """Stops when one more epoch would end further from the limit than this one."""

    def __init__(self, limit_s: float, spent_s: float = 0.0) -> None:
        super().__init__()
        self.limit_s = limit_s
        self.spent_s = spent_s
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock of the epoch."""
        self.began = time.monotonic()

    def share(self) -> float:
        """Return the share of the limit that is over, in [0, 1]."""
        return min(1.0, (self.spent_s + time.monotonic() - self.began) / self.limit_s)

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self.limit_s - self.spent_s)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare the seconds spent with the limit."""
        seconds = (logs or {})["seconds"]
        self.spent_s += seconds
        if self.spent_s + seconds / 2 > self.limit_s:
            self.model.stop_training = True


class _Cosine(keras.callbacks.Callback):
    """Lets the learning rate fall along half a cosine to 0 at the last epoch or the time limit, whichever is first."""

    def __init__(self, rate: float, epochs: int, steps: int, limit: _TimeLimit | None) -> None:
        super().__init__()
        self.rate, self.epochs, self.steps, self.limit = rate, epochs, steps, limit
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember which epoch it is: a resumed training does not begin with the first."""
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the rate for the batches that are run next."""
        over = (self.epoch + batch / self.steps) / self.epochs
        if self.limit:
            over = max(over, self.limit.share())
        self.model.optimizer.learning_rate.assign(self.rate * (1 + math.cos(math.pi * min(1.0, over))) / 2)
