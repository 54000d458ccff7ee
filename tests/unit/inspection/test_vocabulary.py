"""A prompt made of known tokens is found to be those tokens, in every family; searches and quantiles against plain numpy."""

import numpy as np
import pytest
import torch
from scipy.stats import percentileofscore

from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.real_tokens import token_values
from softprompt.errors import UnsupportedBaseModel
from softprompt.inspection.nearest import ChanceLevel, NearestTokens
from softprompt.inspection.norms import LEVELS, compare_norms
from softprompt.inspection.vocabulary import NUM_NEAREST, compare_with_vocabulary
from tests.families import CAUSAL, FAMILIES, V, tiny_base

TOKENS = [31, 7, 64, 90, 7]


def of_tokens(base, kind, scale=1.0):
    return SoftPrompt(scale * token_values(base, TOKENS, kind))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_vectors_that_are_embeddings_are_nearest_to_their_own_tokens(family):
    base = tiny_base(family)
    (found,) = compare_with_vocabulary(base, of_tokens(base, "shallow", scale=3.0))
    assert [tokens[0].token_id for tokens in found.nearest] == TOKENS
    assert [tokens[0].cosine for tokens in found.nearest] == pytest.approx([1.0] * len(TOKENS), abs=1e-5)
    assert all(tokens[1].cosine < 0.99 and len(tokens) == NUM_NEAREST for tokens in found.nearest)


@pytest.mark.parametrize("family", CAUSAL)
def test_keys_and_values_of_real_tokens_are_nearest_to_their_own_tokens_in_the_first_layer(family):
    """`token_values` computes them in one row, each token at its own place behind the others; positions may be learned."""
    base = tiny_base(family)
    found = compare_with_vocabulary(base, of_tokens(base, "deep"))
    keys, values = found[:2]
    assert [token[0].token_id for token in values.nearest] == TOKENS
    for tokens in values.nearest:
        assert (tokens[0].cosine, tokens[0].key_cosine) == pytest.approx((1.0, 1.0), abs=1e-4)
        assert tokens[1].cosine < 0.999
    assert keys.nearest == ()
    assert [each.space.title for each in found] == [f"{side} of layer {layer}" for layer in (1, 2) for side in ("keys", "values")]


def test_a_deep_prompt_of_an_encoder_decoder_model_is_refused_by_name():
    base = tiny_base("t5")
    with pytest.raises(UnsupportedBaseModel, match="encoder-decoder") as caught:
        compare_with_vocabulary(base, SoftPrompt(torch.randn(2, 2, 4, 4, 8)))
    assert caught.value.where == "t5"


def test_a_search_in_pieces_finds_what_a_search_at_once_finds():
    rows, vectors = np.random.default_rng(0).normal(size=(2, 500, 16)).astype(np.float32)
    vectors = vectors[:7]
    cosines = vectors @ rows.T / np.linalg.norm(vectors, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    expected = np.argsort(-cosines, axis=1)[:, :5]
    search = NearestTokens(torch.tensor(vectors), 5)
    for ids in torch.arange(500).split(64):
        search.add(ids, torch.tensor(rows)[ids])
    assert search.ids.tolist() == expected.tolist()
    np.testing.assert_allclose(search.cosines, np.take_along_axis(cosines, expected, 1), atol=1e-6)


def test_chance_is_what_directions_at_random_reach():
    """For one token of any direction the cosine is symmetric about 0; for all 2 * W axis directions it has a known size."""
    width = 64
    level = ChanceLevel(width)
    level.add(torch.arange(2 * width), torch.cat([torch.eye(width), -torch.eye(width)]))
    drawn = np.random.default_rng(1).normal(size=(4000, width))
    expected = (np.abs(drawn).max(axis=1) / np.linalg.norm(drawn, axis=1)).mean()
    assert level.cosine == pytest.approx(expected, abs=0.03)


def test_norms_are_placed_among_the_vocabularys():
    drawn = np.random.default_rng(0)
    vocabulary, vectors = drawn.gamma(5, size=1001).astype(np.float32), drawn.normal(size=(6, 9)).astype(np.float32)
    found = compare_norms(torch.tensor(vectors), torch.tensor(vocabulary))
    norms = np.linalg.norm(vectors, axis=1)
    assert found.prompt == pytest.approx(norms)
    assert found.vocabulary == pytest.approx(np.quantile(vocabulary, LEVELS))
    assert found.ranks == pytest.approx([percentileofscore(vocabulary, norm, "strict") / 100 for norm in norms])


def test_norms_are_those_of_what_the_embedding_module_gives():
    """Gemma scales inside it: its table's own norms would be wrong by the root of the width."""
    base = tiny_base("gemma2")
    (found,) = compare_with_vocabulary(base, of_tokens(base, "shallow"))
    given = base.embedding(torch.arange(V)).norm(dim=1)
    assert found.norms.vocabulary[-1] == pytest.approx(given.max().item(), rel=1e-5)
    assert found.norms.vocabulary[-1] > 2 * base.embedding.weight.norm(dim=1).max().item()


def test_every_token_is_seen_once_however_the_vocabulary_is_cut(monkeypatch):
    base, seen = tiny_base("llama"), []
    monkeypatch.setattr("softprompt.inspection.spaces.TOKENS_AT_ONCE", 10)
    (found,) = compare_with_vocabulary(base, of_tokens(base, "shallow"), lambda *done: seen.append(done))
    assert seen == [(min(end, V), V) for end in range(10, V + 10, 10)]
    assert len(found.sampled) == V, "a small vocabulary is its own sample"
    assert [tokens[0].token_id for tokens in found.nearest] == TOKENS
