"""Profiles: the right numbers, small, in an order of their own, and without what is personal."""

import numpy as np
import pytest

from softprompt.data.statistics.profile import DatasetProfile, profile_of


def test_the_numbers_are_right():
    profile = profile_of(
        ["Red card"] * 6 + ["blue"] * 3, ["a"] * 6 + ["b"] * 3, num_tokens=[2] * 6 + [1] * 3, languages={"en": 9}
    )
    assert profile.num_rows == 9
    assert profile.labels == {"a": 6, "b": 3}
    assert (profile.characters[0], profile.characters[50], profile.characters[-1]) == (4, 8, 8)
    assert (profile.tokens[0], profile.tokens[-1]) == (1, 2)
    assert profile.words == {"card": 6, "red": 6}
    assert profile.num_words == 15
    assert profile.languages == {"en": 9}


def test_quantiles_are_those_of_numpy(tickets):
    lengths = [len(text) for text in tickets[0]]
    percentiles = np.percentile(lengths, range(101), method="inverted_cdf").tolist()
    assert list(profile_of(*tickets).characters) == percentiles


def test_a_word_of_few_rows_or_with_digits_is_not_kept():
    words = profile_of(["order a1b2 42 " + "z" * 31] * 10 + ["Okoro Okoro"] * 4, ["x"] * 14).words
    assert words == {"order": 10}


def test_real_datasets_fit_and_come_back(messages):
    profile = profile_of(*messages)
    assert len(profile.to_bytes()) < 50_000
    assert DatasetProfile.from_bytes(profile.to_bytes(), source="test") == profile


def test_the_largest_profile_fits():
    texts = [" ".join("q" * (1 + number % 29) + chr(97 + number % 26) + chr(97 + number // 676) for number in range(9_000))] * 5
    texts += ["".join(chr(97 + digit) for digit in divmod(number, 26)) for number in range(600)] * 5
    profile = profile_of(texts, [f"label number {number}" for number in range(len(texts))], num_tokens=[10**6] * len(texts))
    assert len(profile.words) <= 2_000
    assert len(profile.labels) == 1_000
    assert len(profile.to_bytes()) < DatasetProfile.max_bytes


def test_the_order_of_rows_does_not_matter(tickets):
    assert profile_of(*tickets).to_bytes() == profile_of(tickets[0][::-1], tickets[1][::-1]).to_bytes()


def test_of_equally_frequent_words_the_first_in_the_alphabet_are_kept():
    letters = "abcdefghijklmno"
    texts = [first + second + third for first in letters for second in letters for third in letters] * 5
    words = profile_of(texts[::-1], []).words
    assert sorted(words) == sorted(set(texts))[:2_000]


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_nothing_to_describe_is_no_crash(texts):
    assert profile_of(texts, ["x"] * len(texts)).words == {}
