"""The plane against scikit-learn's PCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from softprompt.inspection.projection import NUM_SAMPLED_TOKENS, Plane, sampled_tokens

ROWS = torch.tensor(np.random.default_rng(0).normal(size=(300, 12)) * np.linspace(5, 1, 12) + 3, dtype=torch.float32)
VECTORS = torch.tensor(np.random.default_rng(1).normal(size=(8, 12)) * 4, dtype=torch.float32)


def test_coordinates_are_those_of_principal_component_analysis():
    theirs = PCA(2, svd_solver="full").fit(ROWS.numpy())
    plane = Plane.through(ROWS)
    mine, expected = plane.project(VECTORS).numpy(), theirs.transform(VECTORS.numpy())
    signs = np.sign((mine * expected).sum(axis=0))
    np.testing.assert_allclose(mine * signs, expected, rtol=1e-4, atol=1e-4)
    assert plane.explained == pytest.approx(theirs.explained_variance_ratio_, rel=1e-4)


def test_what_a_picture_holds_of_the_vectors_is_stated():
    plane = Plane.through(ROWS)
    inside = plane.centre + torch.tensor([[2.0, -1.0], [0.5, 3.0]]) @ plane.axes
    outside = plane.centre + torch.linalg.svd(ROWS - plane.centre).Vh[5:7]
    assert plane.share_inside(inside) == pytest.approx(1.0, abs=1e-5)
    assert plane.share_inside(outside) == pytest.approx(0.0, abs=1e-5)
    # Squared lengths 5, 9.25 inside and 1, 1 outside.
    assert plane.share_inside(torch.cat([inside, outside])) == pytest.approx(14.25 / 16.25, abs=1e-4)


def test_the_sample_is_the_same_for_every_prompt_and_names_no_token_twice():
    ids = sampled_tokens(5000).tolist()
    assert ids == sampled_tokens(5000).tolist()
    assert len(set(ids)) == NUM_SAMPLED_TOKENS
    assert ids == sorted(ids)
    assert sampled_tokens(10).tolist() == list(range(10))
