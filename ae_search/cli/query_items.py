"""Queries by items of the index: one by itself, or examples to be near to and far from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ae_search.cli.answers import Answer
from ae_search.contract import Index
from ae_search.image_file import PLAIN_SHAPE, is_plain, stored_thumbnail
from ae_search.regions import has_regions
from ae_search.search import ImageSearch
from ae_search.search.examples import Examples, by_example


def answer_items(
    index: Index, keys: Sequence[str], k: int, examples: Examples, *, alone: bool, **options: Any
) -> list[Answer]:
    """Return the answer for each key; where there are examples, it is one more item to be near to.

    Args:
        index: The index.
        keys: Keys of items.
        k: How many neighbours.
        examples: Items to be near to and far from.
        alone: Whether the examples make a query by themselves, where there are no keys.
        options: What the search is given.
    """
    if not examples.keys:
        options["first_latents"] = has_regions(index)
        return [Answer(key, None, index.search_by_key(key, k, **options), plain=_is_plain(index, key)) for key in keys]
    asked = [(key, (key, *examples.like)) for key in keys]
    if alone and not asked:
        asked = [(", ".join(examples.like), examples.like)]
    return [
        Answer(name, None, by_example(index, Examples(like, examples.unlike), k, **options)) for name, like in asked
    ]


def answer_with_examples(
    search: ImageSearch, examples: Examples, k: int, answers: Sequence[Answer], **options: Any
) -> None:
    """Find the neighbours of each image and of the examples together."""
    for answer in answers:
        assert answer.file is not None
        answer.neighbours = search.search(answer.file, k, like=examples.like, unlike=examples.unlike, **options)
        answer.plain = search.plain(answer.file)


def _is_plain(index: Index, key: str) -> bool:
    """Return whether an item is of one colour, by its thumbnail; False where it has none."""
    small = stored_thumbnail(index.thumbnail(key), PLAIN_SHAPE[0])
    return small is not None and is_plain(np.asarray(small.convert("RGB")))
