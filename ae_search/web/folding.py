"""Near-duplicates among the rows of an answer: each is folded under the first that it repeats."""

from collections.abc import Sequence

import numpy as np

from ae_search.calibration import Calibration, alike_of
from ae_search.contract import Index
from ae_search.errors import ConfigurationError

# Rows before a page that its own are compared with: what repeats another is as similar to the query as that one.
LOOK_BACK = 100


def folded(index: Index, keys: Sequence[str], calibration: Calibration | None) -> list[str | None]:
    """Return under which of those before it each item of an answer is folded, None for those that stand by themselves.

    Args:
        index: The index; of items with several latents, the first counts.
        keys: The items, in the order of the answer.
        calibration: The index's calibration; see `calibration.alike_of`.
    """
    known = index.known(keys)  # one may have been removed since it was found
    there = [key for key in keys if key in known]
    if len(there) < 2:
        return [None] * len(keys)
    try:
        latents = index.latents(there)
        several = len(index.all_latents(there[:1])[0]) > 1
    except ConfigurationError:
        return [None] * len(keys)
    alike = alike_of(None, calibration, several=several)
    least = alike.least(latents)
    if alike.compared is None:
        lengths = np.linalg.norm(latents, axis=1, keepdims=True)
        units = latents / np.where(lengths > 0, lengths, 1)
    else:
        units = alike.compared(latents)
    same = units @ units.T >= np.maximum(least[:, np.newaxis], least)
    heads: dict[str, str | None] = {}
    alone: list[int] = []
    for at, key in enumerate(there):
        head = next((one for one in alone if same[one, at]), None)
        heads[key] = None if head is None else there[head]
        if head is None:
            alone.append(at)
    return [heads.get(key) for key in keys]
