"""ROUGE, BLEU and chrF: those of rouge-score 0.1.2 and sacreBLEU 2.6.0, and how they vary from text to text."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.text import rouge_score, sacre_bleu_score

from quickstudy.functional.intervals import proportion_interval
from quickstudy.functional.ngrams import bleu, bleu_counts, chrf, chrf_counts, rouge, shares_of_texts
from quickstudy.kinds.metrics import Means, Written

TOLD = ["The cat sat on a mat.", "Don't stop at 3.5%, or 2-3.", "naïve für", "A&B (at most)", "x", "the end"]
TRUE = [
    "The cat sat on the mat.",
    "Do not stop at 3.5% or 2-3!",
    "naïve Ende für alle",
    "A&amp;B, at most",
    "y",
    "the very end of it",
]
BLEU = torch.tensor([bleu_counts(*pair) for pair in zip(TOLD, TRUE, strict=True)])
CHRF = torch.tensor([chrf_counts(*pair) for pair in zip(TOLD, TRUE, strict=True)])


def test_bleu_is_sacrebleus() -> None:
    assert float(bleu(BLEU.sum(0))) == pytest.approx(0.3601763310744511)
    assert float(bleu(BLEU[2:].sum(0))) == pytest.approx(0.20748815438879954)  # smoothed: no four words are common
    assert float(bleu(BLEU[:2].sum(0))) == pytest.approx(float(sacre_bleu_score(TOLD[:2], [[one] for one in TRUE[:2]])))


def test_chrf_is_sacrebleus() -> None:
    assert float(chrf(CHRF.sum(0))) == pytest.approx(0.4630999352575631)
    assert float(chrf(CHRF[2:].sum(0))) == pytest.approx(0.27960727804545854)


def test_rouge_is_that_of_google_where_texts_are_ascii() -> None:
    assert rouge(TOLD[0], TRUE[0]) == pytest.approx((0.8333333333333334, 0.6, 0.8333333333333334))
    assert rouge(TOLD[1], TRUE[1]) == pytest.approx((0.7777777777777778, 0.75, 0.7777777777777778))
    found = rouge_score(TOLD[1], TRUE[1], rouge_keys=("rouge1", "rouge2", "rougeL"))
    own = zip(rouge(TOLD[1], TRUE[1]), ("rouge1", "rouge2", "rougeL"), strict=True)
    assert all(value == pytest.approx(float(found[f"{name}_fmeasure"])) for value, name in own)


def test_rouge_knows_words_of_any_script() -> None:
    assert rouge("кот сидел", "Кот, сидел!") == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("told", "true"), [("", "a"), ("a", "a"), ("", ""), ("a", "b")])
def test_what_is_hardly_a_text_has_figures(told: str, true: str) -> None:
    own = [*rouge(told, true), float(bleu(torch.tensor(bleu_counts(told, true))))]
    own.append(float(chrf(torch.tensor(chrf_counts(told, true)))))
    assert all(0 <= value <= 1 for value in own)
    assert own[-1] == (told == true == "a")


def test_shares_of_texts_are_those_of_the_jackknife() -> None:
    whole, count = float(chrf(CHRF.sum(0))), len(CHRF)
    shares = shares_of_texts(chrf, CHRF)
    assert float(shares.mean()) == pytest.approx(whole)
    rests = torch.tensor([float(chrf(CHRF[torch.arange(count) != row].sum(0))) for row in range(count)])
    spread = (count - 1) / count * (rests - rests.mean()).square().sum()  # the jackknife's variance
    assert float(shares.var() / count) == pytest.approx(float(spread), rel=1e-6)


def test_figures_are_gathered_over_batches() -> None:
    measure = Written(("exact_match",))
    exact = torch.tensor([[0.0], [1.0], [0.0], [0.0], [0.0], [1.0]])
    for part in (slice(0, 4), slice(4, 6)):
        measure.update(torch.cat([exact, BLEU, CHRF], 1)[part])
    found = measure.estimates()
    assert found["bleu"].mean == pytest.approx(float(bleu(BLEU.sum(0))))
    assert found["chrf"].mean == pytest.approx(float(chrf(CHRF.sum(0))))
    assert found["exact_match"].mean == pytest.approx(1 / 3)
    assert found["exact_match"].ci95 == pytest.approx(proportion_interval(2, 6)[1])
    assert all(one.units == 6 and one.ci95 > 0 for one in found.values())


def test_what_is_right_each_time_may_be_wrong_the_next() -> None:
    counts = torch.tensor([[*bleu_counts(text, text), *chrf_counts(text, text)] for text in TRUE[:3]])
    for measure, figures in (
        (Written(("f1",)), torch.cat([torch.ones(3, 1), counts], 1)),
        (Means(("f1",)), torch.ones(3, 1)),
    ):
        measure.update(figures)
        for one in measure.estimates().values():
            assert (one.mean, one.ci95) == pytest.approx(proportion_interval(3, 3))
