"""A training ends when it no longer gets better, says what it exports, and tells how long it will take."""

import csv
import json
import logging
import math

import numpy as np
import pytest

from ae_search.data import ArraySource
from ae_search.training import TrainingOptions, configure, read_config, train
from ae_search.training.epoch_lines import EpochLines, duration
from ae_search.training.patience import Best, default_patience
from ae_search.training.run_folder import read_summary

# What 971 photographs and Fashion-MNIST were seen to do, in short.
SOON_BEST = [10.5, 11.6, 10.8, 10.1, 10.0, 10.3, 10.1, 10.0]


def test_the_best_is_the_first_of_the_lowest():
    best = Best.of(SOON_BEST)
    assert (best.loss, best.epoch, best.epochs) == (10.0, 5, 8)
    assert [patience for patience in range(6) if best.exhausts(patience)] == [1, 2, 3]


def test_a_loss_that_is_no_number_is_never_better_than_one_that_is():
    best = Best.of([math.nan, 2.0, math.nan])
    assert (best.loss, best.epoch) == (2.0, 2)
    assert Best.of([math.nan]).epoch == 1


@pytest.mark.parametrize(("epochs", "patience"), [(1, 10), (24, 10), (60, 15), (400, 100)])
def test_the_default_grows_with_the_epochs(epochs, patience):
    assert default_patience(epochs) == patience


@pytest.fixture(scope="module")
def noise():
    """Images that have nothing in common: what is learned from some does not help with others."""
    return ArraySource("noise", np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8), [None] * 60)


def options(**changes):
    # So fast that it soon gets worse.
    given = {"epochs": 60, "patience": 2, "latent_dim": 4, "validation": 0.5, "learning_rate": 0.1, "batch_size": 30}
    return TrainingOptions(**{**given, **changes})


def losses(run):
    with (run / "history.csv").open(newline="") as file:
        return [float(row["val_loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def ended(noise, tmp_path_factory):
    run = tmp_path_factory.mktemp("patience") / "run"
    return run, train(noise, configure(noise, options()), run)


def test_it_ends_when_nothing_better_came_for_so_long(ended):
    run, summary = ended
    history = losses(run)
    assert len(history) == summary["epochs"] < 60
    assert summary["best_epoch"] == int(np.argmin(history)) + 1 == summary["epochs"] - 2
    assert summary["best_loss"] == min(history)


def test_the_same_command_has_nothing_more_to_do_and_more_patience_has(ended, noise, tmp_path):
    run, summary = ended
    assert train(noise, configure(noise, options()), run) == summary
    (run / "summary.json").unlink()  # killed between the last epoch and the summary
    assert train(noise, configure(noise, options()), run) == summary
    more = train(noise, configure(noise, options(patience=0, epochs=summary["epochs"] + 2)), run)
    assert more["epochs"] == summary["epochs"] + 2


@pytest.mark.slow
def test_no_patience_at_all_runs_every_epoch(noise, tmp_path):
    assert train(noise, configure(noise, options(patience=0, epochs=12)), tmp_path / "run")["epochs"] == 12


def test_few_images_are_told_and_each_epoch_has_a_line(noise, tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="ae_search"):
        train(noise, configure(noise, options(epochs=2)), tmp_path / "run")
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("60 images are few to train on") for line in lines)
    (first, second) = [line for line in lines if line.startswith("epoch ")]
    assert first.startswith("epoch 1 of 2: loss ") and "val_loss" in first and first.endswith("left at most")
    assert second.endswith("done")
    out, err = capsys.readouterr()
    assert out == "" and "\x1b" not in err


def test_the_time_left_is_over_all_epochs_and_within_the_limit(caplog):
    caplog.set_level(logging.INFO, logger="ae_search")
    for limit, told in ((None, "9 min left at most"), (lambda: 30.0, "30 s left at most")):
        lines = EpochLines(60, limit)
        for epoch in range(6):
            lines.on_epoch_end(epoch, {"loss": 1.0, "seconds": 500.0 if epoch == 0 else 10.0})
        assert caplog.messages[-1].endswith(told)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (12_000, "3 h 20 min")]
)
def test_a_time_is_said_as_a_person_says_it(seconds, told):
    assert duration(seconds) == told


def test_a_run_of_an_earlier_release_is_read(ended, noise):
    run, _ = ended
    for name, field in (("config.json", "patience"), ("summary.json", "best_epoch")):
        told = json.loads((run / name).read_text())
        del told[field]
        (run / name).write_text(json.dumps(told))
    assert read_config(run).patience == 0
    assert read_summary(run)["best_epoch"] == 0
