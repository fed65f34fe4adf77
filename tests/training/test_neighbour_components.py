"""Components that count less the more neighbours differ by them, against the same in so many words."""

import numpy as np
import pytest

from ae_search.nearest import top_k
from ae_search.principal import principal_axes
from ae_search.training.neighbour_components import (
    MOST_COLOURS,
    NEIGHBOURS,
    POWER,
    SHRINKAGE,
    colour_weight,
    neighbour_components,
    weighed_components,
)


def in_so_many_words(rows, count):
    """Return latents by the graph Laplacian of the neighbours, in double precision."""
    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    left, deviations, axes = np.linalg.svd(centred, full_matrices=False)
    turned = centred @ axes[deviations > 1e-4 * deviations[0]].T
    latents = turned[:, :128]
    for _ in range(2):
        similar = latents / np.linalg.norm(latents, axis=1, keepdims=True)
        cosines = similar @ similar.T
        np.fill_diagonal(cosines, -9)
        edges = np.zeros((len(rows), len(rows)))
        edges[np.arange(len(rows))[:, None], np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]] = 1
        edges = np.maximum(edges, edges.T)
        laplacian = np.diag(edges.sum(axis=1)) - edges
        values, vectors = np.linalg.eigh(turned.T @ laplacian @ turned / edges.sum())
        whitened = vectors * (np.maximum(values, 0) + SHRINKAGE * values.mean()) ** -0.5
        _, deviations, axes = np.linalg.svd(turned @ whitened, full_matrices=False)
        latents = turned @ whitened @ axes[:count].T * (deviations[:count] / np.sqrt(len(rows))) ** POWER
    return latents


@pytest.mark.parametrize("shape", [(300, 20), (60, 90)], ids=["many", "few"])
def test_components_are_those_of_the_definition(shape):
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal(shape) * np.linspace(3, 0.5, shape[1])).astype(np.float32)
    latents, expected = neighbour_components(rows, 6).of(rows), in_so_many_words(rows, 6)
    # Up to the sign of each.
    np.testing.assert_allclose(np.abs(latents), np.abs(expected), atol=2e-3 * np.abs(expected).max())


def test_what_neighbours_differ_by_counts_less():
    """Things have a place in some directions; what else varies, more strongly, says nothing."""
    rng = np.random.default_rng(1)
    things = rng.standard_normal((20, 6))
    which = np.repeat(np.arange(20), 15)
    noise = rng.standard_normal((300, 12)) * np.linspace(0.6, 0.2, 12)
    rows = np.hstack([things[which] + 0.1 * rng.standard_normal((300, 6)), noise]).astype(np.float32)

    def right(latents):
        found = top_k(latents, latents, 10, "angular", skip=np.arange(300))
        return (which[found] == which[:, None]).mean()

    principal = principal_axes(rows)
    before = right(((rows - principal.mean) @ principal.axes[:, :8]).astype(np.float32))
    assert right(neighbour_components(rows, 8).of(rows)) > max(0.9, before)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_have_few_components(count):
    rows = np.random.default_rng(0).standard_normal((count, 9)).astype(np.float32)
    components = neighbour_components(rows, 16)
    assert 1 <= components.axes.shape[1] <= max(1, count - 1)
    assert np.isfinite(components.of(rows)).all()


def test_equal_images_have_finite_components():
    components = neighbour_components(np.ones((7, 5), np.float32), 3)
    assert np.isfinite(components.of(np.random.default_rng(0).random((4, 5), np.float32))).all()


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_colours_count_where_neighbours_have_the_same():
    rng = np.random.default_rng(2)
    which = np.repeat(np.arange(30), 10)
    features = unit(rng.standard_normal((30, 20))[which] + 0.3 * rng.standard_normal((300, 20)))
    alike = unit(np.abs(rng.standard_normal((30, 16)))[which] + 0.2 * np.abs(rng.standard_normal((300, 16))))
    others = unit(np.abs(rng.standard_normal((300, 16))))
    assert colour_weight(features, alike) > 3 * colour_weight(features, others)
    assert colour_weight(features, np.ones((300, 16), np.float32)) == 0
    assert 0 < colour_weight(features, unit(np.abs(rng.standard_normal((30, 16)))[which])) <= MOST_COLOURS
    assert colour_weight(features[:1], alike[:1]) == 0


def test_the_weight_of_colours_is_in_the_components():
    """One linear map of both says the same as components of colours that were weighed before."""
    rng = np.random.default_rng(3)
    features, colours = (unit(rng.standard_normal((80, floats))) for floats in (12, 7))
    rows = np.hstack([features, colours])
    weighed = np.hstack([features, colour_weight(features, colours) * colours]).astype(np.float32)
    found = weighed_components(rows, 12, 5).of(rows)
    np.testing.assert_allclose(found, neighbour_components(weighed, 5).of(weighed), atol=1e-4 * np.abs(found).max())
