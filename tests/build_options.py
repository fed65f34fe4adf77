"""Options of an index in one call, as tests mostly want a few of them."""

from typing import Any

from ae_search.index import AnnoyOptions, BuildOptions, Resources


def build_options(n_trees: int = 40, *, jobs: int = -1, on_disk: bool | None = None, **options: Any) -> BuildOptions:
    """Return options of `build_index` with so many trees."""
    return BuildOptions(AnnoyOptions(n_trees), resources=Resources(jobs, on_disk), **options)
