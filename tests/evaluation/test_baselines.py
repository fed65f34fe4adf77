"""Baselines against scikit-learn-free oracles: an SVD of the whole matrix, and what each must and must not see."""

import numpy as np
import pytest

from ae_search import principal
from ae_search.evaluation.measures.baselines import fit_baselines, gradients, random_encoder
from ae_search.nearest import top_k
from ae_search.principal import fit_components


def in_blocks(rows, size=37):
    return lambda: (rows[start : start + size] for start in range(0, len(rows), size))


def correlated(count, dim, seed=0):
    """Vectors whose variance falls from one direction to the next."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(dim, dim)))[0]
    return (random.normal(size=(count, dim)) * 0.8 ** np.arange(dim) @ turn + 5).astype(np.float32)


def by_svd(rows, count):
    """Components by the singular values of all vectors, scaled by eigenvalue to the power of -1/4."""
    centred = rows.astype(float) - rows.mean(axis=0, dtype=float)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:count].T * (lengths[:count] ** 2 / len(rows)) ** -0.25


@pytest.mark.parametrize(("count", "dim"), [(300, 20), (15, 40), (300, 60)], ids=["covariance", "few", "iteration"])
def test_components_are_those_of_an_svd(monkeypatch, count, dim):
    if (count, dim) == (300, 60):
        monkeypatch.setattr(principal, "LARGEST_MATRIX", 50)
    rows = correlated(count, dim)
    found = fit_components(in_blocks(rows), 6, seed=0).of(rows)
    expected = by_svd(rows, 6)
    # Either may point the other way.
    assert np.abs(found) == pytest.approx(np.abs(expected), abs=2e-3)
    assert (found**2).mean(axis=0) == pytest.approx((expected**2).mean(axis=0), rel=1e-3)


def test_no_more_components_than_the_vectors_span():
    rows = np.repeat(correlated(4, 10), 5, axis=0)
    assert fit_components(in_blocks(rows), 8, seed=0).axes.shape == (10, 3)


@pytest.mark.parametrize("count", [5, 25])
def test_equal_vectors_are_not_scaled(count):
    same = np.ones((count, 10), np.float32)
    components = fit_components(in_blocks(same), 8, seed=0)
    assert components.axes.shape == (10, 1)
    assert np.abs(components.axes).max() <= 1
    assert components.of(same) == pytest.approx(np.zeros((count, 1)))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (30, 16, 12, 3), np.uint8)


def test_each_baseline_has_its_size_and_finds_an_image_by_itself(images):
    fitted = list(fit_baselines(images, 8, seed=0))
    assert [(one.name, one.floats) for one in fitted] == [
        ("pixels", 576),
        ("pixels, PCA", 8),
        ("gradients, PCA", 8),
        ("colours (HSV), PCA", 8),
        ("untrained encoder", 8),
    ]
    for baseline in fitted:
        vectors = baseline.vectors(images)
        assert vectors.shape == (30, baseline.floats)
        assert top_k(vectors[5:9], vectors, 1, "angular")[:, 0].tolist() == [5, 6, 7, 8]
        # Batches end somewhere, which must not show.
        assert baseline.vectors(images[7:8]) == pytest.approx(vectors[7:8], abs=1e-4)


def test_grey_images_have_no_row_of_colours(images):
    names = [one.name for one in fit_baselines(images[..., :1], 8, seed=0)]
    assert names == ["pixels", "pixels, PCA", "gradients, PCA", "untrained encoder"]


def test_colours_find_colours_wherever_they_are(images):
    """Under the row of colours, the nearest to an image is the one with the same pixels in other places."""
    *_, row, _ = fit_baselines(images, 8, seed=0)
    assert row.name == "colours (HSV), PCA"
    turned = images[:, ::-1, ::-1]
    assert top_k(row.vectors(turned), row.vectors(images), 1, "angular")[:, 0].tolist() == list(range(30))


def test_components_are_no_more_than_images(images):
    sizes = {one.name: one.floats for one in fit_baselines(images[:5], 8, seed=0)}
    assert sizes["pixels, PCA"] <= 5
    assert sizes["gradients, PCA"] <= 5
    assert sizes["colours (HSV), PCA"] <= 5


def test_gradients_do_not_see_brightness(images):
    dark = (images // 2).astype(np.uint8)
    assert gradients(dark * 2) == pytest.approx(gradients(dark), rel=0.02)


def test_the_random_encoder_is_the_same_for_a_seed_and_another_for_another(images):
    one, same, other = (random_encoder((16, 12, 3), 8, seed).vectors(images) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
