"""What a linear classifier makes of latents: how much they tell of the classes, whatever a search makes of that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents

# Enough to converge on standardised latents; more would only lengthen the run.
MOST_ITERATIONS = 300
# The strength of the regularisation that scikit-learn begins with. Nothing is chosen here.
INVERSE_PENALTY = 1.0


def linear_probe(items: Latents, labels: Sequence[str], queries: Latents, wanted: Sequence[str]) -> float:
    """Return the accuracy of a logistic regression that learned the labels of all items.

    Args:
        items: Float `[n, d]`.
        labels: Their labels.
        queries: Float `[q, d]`, which the regression does not see.
        wanted: Their labels.
    """
    from sklearn.linear_model import LogisticRegression

    mean, spread = items.mean(axis=0), np.maximum(items.std(axis=0), np.finfo(np.float32).tiny)
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_ITERATIONS)
    regression.fit(_standardised(items, mean, spread), list(labels))
    return float(regression.score(_standardised(queries, mean, spread), list(wanted)))


def _standardised(rows: Latents, mean: Any, spread: Any) -> npt.NDArray[np.float64]:
    # In double precision: the line search of lbfgs gives up early in single.
    return ((rows - mean) / spread).astype(np.float64)
