"""What goes wrong without an error is noticed; what is in order is not complained about."""

import torch

from softprompt.tuning import diagnosis
from softprompt.tuning.training_log import Measurement


def look(accuracy: float, *, step: int = 1, training_loss: float = 1.0, validation_loss: float = 1.0) -> Measurement:
    return Measurement(
        candidate=0,
        step=step,
        training_loss=training_loss,
        validation_loss=validation_loss,
        validation_accuracy=accuracy,
        learning_rate=1.0,
        tokens_per_second=1.0,
        seconds=1.0,
    )


def test_a_constant_answer_is_noticed_unless_it_is_right():
    expected = ["a", "b"] * 20
    assert "'a' to 100%" in diagnosis.constant_predictions(["a"] * 40, expected)
    assert diagnosis.constant_predictions(["a", "b"] * 20, expected) is None
    assert diagnosis.constant_predictions(["a"] * 40, ["a"] * 39 + ["b"]) is None


def test_a_prompt_that_stands_still_is_noticed():
    start = torch.randn(5, 8)
    assert "hardly moved" in diagnosis.unmoved(start, start + 1e-4, torch.tensor(1.0))
    assert diagnosis.unmoved(start, start + 0.1, torch.tensor(1.0)) is None
    assert "hardly moved" in diagnosis.unmoved(start, start + 0.1, torch.tensor(100.0))


def test_an_exploding_vector_is_noticed():
    start = torch.ones(5, 8)
    end = start.clone()
    assert diagnosis.exploded(start, end * 20) is None
    end[3] *= 31
    assert "31 times as long" in diagnosis.exploded(start, end)


def test_too_few_validation_rows_are_noticed_with_the_number_needed():
    text = diagnosis.indistinguishable([look(0.90), look(0.88)], 100)
    assert "0.900 and 0.880" in text
    # 1.96^2 * (0.09 + 0.1056) / 0.02^2, by hand
    assert "1,879 rows" in text
    assert diagnosis.indistinguishable([look(0.90), look(0.60)], 100) is None
    assert diagnosis.indistinguishable([look(0.90)], 100) is None
    assert "20 validation rows" in diagnosis.few_rows(0.5, 20)
    assert diagnosis.few_rows(0.5, 1000) is None


def test_rows_known_by_heart_are_noticed():
    def curve(*losses):
        pairs = enumerate(losses, start=1)
        return [look(0.5, step=step, training_loss=mine, validation_loss=theirs) for step, (mine, theirs) in pairs]

    text = diagnosis.by_heart(curve((2.0, 1.5), (0.8, 1.0), (0.2, 1.2)))
    assert "since step 2 the training loss fell from 0.8 to 0.2, the validation loss rose from 1 to 1.2" in text
    assert diagnosis.by_heart(curve((2.0, 1.5), (0.8, 1.0), (0.2, 1.05))) is None, "hardly rises"
    assert diagnosis.by_heart(curve((2.0, 1.5), (0.8, 1.0), (0.6, 1.2))) is None, "goes wrong on both"
    assert diagnosis.by_heart(curve((2.0, 1.5), (0.8, 1.0), (0.2, 1.3), (0.1, 0.9))) is None, "came back"
    assert diagnosis.by_heart(curve((0.0, 0.0))) is None, "nothing to divide by"
