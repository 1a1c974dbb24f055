"""Which networks form an ensemble, calibration and disagreement against hand and oracle, what is stored, rows."""

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramdiff.evaluation.comparison import Originals, Scored
from paramdiff.evaluation.ensembles import (
    SIZES,
    all_groups,
    calibration_error,
    disagreement,
    ensembles_of,
    from_tensors,
    groups,
    to_tensors,
)
from paramdiff.evaluation.statistics import paired_difference_ci
from paramdiff.evaluation.summary import summarise
from paramdiff.files import load_tensors, save_tensors
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.scoring.scores import Scores
from paramdiff.zoo.zoo import Zoo

ITEMS, CLASSES = 400, 4
LABELS = torch.arange(ITEMS) % CLASSES


def logits_of(n, seed=0, signal=1.0):
    """Classifiers that are right on average and err independently."""
    noise = torch.randn(n, ITEMS, CLASSES, generator=torch.Generator().manual_seed(seed))
    return noise + signal * torch.nn.functional.one_hot(LABELS, CLASSES)


def outcomes_of(p):
    """What a classification task says, from probabilities [N, items, classes]."""
    confidence, answer = p.max(-1)
    nll = -p.gather(-1, LABELS.expand(len(p), -1)[..., None])[..., 0].log()
    return {
        "correct": answer == LABELS,
        "nll": nll,
        "confidence": confidence,
        "answer": answer.to(torch.uint8),
    }


def scores_of(logits):
    p = logits.softmax(-1)
    together = [p[list(group)].mean(0) for group in all_groups(len(p))]
    joint = outcomes_of(torch.stack(together)) if together else None
    accuracy = lambda outcomes: {"accuracy": outcomes["correct"].double().mean(1)}
    single = outcomes_of(p)
    return Scores(single, accuracy(single), None if joint is None else Scores(joint, accuracy(joint)))


def scored_of(logits):
    return Scored.of(scores_of(logits), scores_of(logits))


def originals_of(logits):
    k = len(logits)
    vectors = torch.randn(k, 20, generator=torch.Generator().manual_seed(0))
    spec = ParameterSpec.from_state_dict({"w": torch.zeros(20)})
    return Originals(Zoo(vectors, spec, {"w": vectors[0]}), scored_of(logits))


def row_of(scored, originals):
    row = summarise("p-diff", originals.compare(torch.randn(scored.n, 20), scored), originals)
    return json.loads(json.dumps(row, allow_nan=False))


# Groups


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 130))
def test_groups_are_disjoint_and_small_ones_lie_inside_large_ones(n):
    for m in SIZES:
        found = [set(group) for group in groups(n, m)]
        assert all(len(group) == m and group <= set(range(n)) for group in found)
        assert len(set().union(*found)) == m * len(found)
        assert len(found) == ((n - n % 10) // m if n >= 10 else n // m)
    large = [set(group) for group in groups(n, 10)]
    if large:
        assert all(any(set(group) <= other for other in large) for group in groups(n, 5))


def test_members_lie_far_apart_in_a_trajectory():
    assert list(groups(300, 10)[2]) == list(range(2, 300, 30))
    assert [len(groups(n, 5)) for n in (4, 5, 9, 10, 100)] == [0, 1, 1, 2, 20]
    assert len(all_groups(100)) == 30


# Measures


def test_calibration_by_hand():
    """Bins 0.5-0.6 (0.55, 0.55; one right) and 0.9-1 (0.95, 1; both right), ten bins."""
    confidence, correct = torch.tensor([0.55, 0.95, 0.55, 1.0]), torch.tensor([True, True, False, True])
    assert calibration_error(confidence, correct, 10) == pytest.approx((2 * 0.05 + 2 * 0.025) / 4)
    assert calibration_error(torch.tensor([0.7, 0.7]), torch.tensor([True, False])) == pytest.approx(0.2)


def test_a_calibrated_classifier_and_one_that_is_too_sure():
    random = torch.Generator().manual_seed(0)
    confidence = 0.25 + 0.75 * torch.rand(200_000, generator=random)
    correct = torch.rand(200_000, generator=random) < confidence
    assert calibration_error(confidence, correct) < 0.005
    sure = (confidence + 0.1).clamp(max=1)
    lost = float((sure - confidence).mean())
    assert calibration_error(sure, correct) == pytest.approx(lost, abs=0.004)


def test_calibration_is_that_of_torchmetrics():
    oracle = pytest.importorskip("torchmetrics.functional.classification")
    p = logits_of(1)[0].softmax(-1)
    found = outcomes_of(p[None])
    expected = oracle.multiclass_calibration_error(p, LABELS, CLASSES, n_bins=15, norm="l1")
    assert calibration_error(found["confidence"][0], found["correct"][0]) == pytest.approx(
        float(expected), abs=1e-6
    )


def test_a_confidence_that_is_unknown_makes_the_error_unknown():
    error = calibration_error(torch.tensor([0.5, torch.nan]), torch.tensor([True, False]))
    assert torch.tensor(error).isnan()


def test_disagreement_is_the_mean_over_pairs():
    answers = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 0], [1, 1, 1, 1]], dtype=torch.uint8)
    assert disagreement(answers) == pytest.approx((1 / 4 + 3 / 4 + 3 / 4) / 3)
    large = torch.randint(0, 9, (6, 50), generator=torch.Generator().manual_seed(0))
    pairs = [float((a != b).double().mean()) for a, b in itertools.combinations(large, 2)]
    assert disagreement(large) == pytest.approx(sum(pairs) / len(pairs))
    assert disagreement(large[:1].expand(5, -1)) == 0


# Ensembles


def test_measures_are_means_over_the_ensembles():
    logits = logits_of(20)
    one, five, ten = ensembles_of(scores_of(logits))
    assert [(found.m, found.groups) for found in (one, five, ten)] == [(1, 20), (5, 4), (10, 2)]
    p = logits.softmax(-1)
    mean = p[1::2].mean(0)
    nll = -mean[range(ITEMS), LABELS].log()
    assert float(ten.measures["nll"][1]) == pytest.approx(float(nll.mean()), rel=1e-5)
    assert float(ten.measures["accuracy"][1]) == pytest.approx(
        float((mean.argmax(1) == LABELS).double().mean())
    )
    assert float(ten.measures["disagreement"][1]) == pytest.approx(disagreement(p[1::2].argmax(-1)))
    assert "disagreement" not in one.measures
    both = torch.stack([mean, p[0::2].mean(0)])[:, range(ITEMS), LABELS]
    assert torch.allclose(ten.items["nll"], -both.log().mean(0), atol=1e-5)
    assert (
        float(one.measures["nll"].mean())
        > float(five.measures["nll"].mean())
        > float(ten.measures["nll"].mean())
    )
    assert torch.allclose(five.items["accuracy"].double().mean(), five.measures["accuracy"].mean())


def test_copies_gain_nothing():
    one, five, ten = ensembles_of(scores_of(logits_of(1).expand(10, -1, -1)))
    for name in ("accuracy", "nll", "ece"):
        expected = one.measures[name].mean()
        assert torch.allclose(five.measures[name].mean(), expected, atol=1e-6)
        assert torch.allclose(ten.measures[name].mean(), expected, atol=1e-6)
    assert float(five.measures["disagreement"].max()) == 0


def test_few_networks_and_tasks_without_ensembles_or_answers():
    assert [found.m for found in ensembles_of(scores_of(logits_of(7)))] == [1, 5]
    assert ensembles_of(scores_of(logits_of(4))) == ()
    known = scores_of(logits_of(10))
    assert ensembles_of(Scores(known.outcomes, known.metrics)) == ()
    bare = lambda scores: Scores({name: scores.outcomes[name] for name in ("correct", "nll")}, scores.metrics)
    plain = Scores(bare(known).outcomes, known.metrics, bare(known.ensembles))
    assert [list(found.measures) for found in ensembles_of(plain)] == [["accuracy", "nll"]] * 3
    error = {"error": torch.rand(10, ITEMS)}
    assert ensembles_of(Scores(error, known.metrics, Scores({"error": torch.rand(3, ITEMS)}, {}))) == ()


def test_what_is_stored_is_small_and_read_back(tmp_path):
    scored = scored_of(logits_of(20))
    assert sum(value.nbytes for value in to_tensors(scored.ensembles).values()) < 3 * 2 * 4 * ITEMS + 1000
    save_tensors(tmp_path / "row.safetensors", scored.tensors())
    again = Scored.from_tensors(load_tensors(tmp_path / "row.safetensors")).ensembles
    assert [one.m for one in again] == [1, 5, 10]
    for mine, theirs in zip(scored.ensembles, again, strict=True):
        for kept in ("measures", "items"):
            assert getattr(mine, kept).keys() == getattr(theirs, kept).keys()
            assert all(
                torch.equal(value, getattr(theirs, kept)[name]) for name, value in getattr(mine, kept).items()
            )
    assert from_tensors({"train": torch.zeros(3)}) == ()


def test_answers_and_confidences_are_no_scores():
    """Intervals of a metric that is no mean over items must not come from what happens to have its mean."""
    known = scores_of(logits_of(1))
    for name in ("answer", "confidence"):
        metric = {"f1": known.outcomes[name].double().mean(1)}
        scored = Scored.of(Scores(known.outcomes, metric), Scores(known.outcomes, metric))
        assert scored.items_test is None and scored.item_values(0) is None


# Rows of results.json


def test_a_row_compares_with_the_originals_ensembles_of_the_same_size():
    originals, better = originals_of(logits_of(30)), logits_of(20, 1, signal=1.3)
    row = row_of(scored_of(better), originals)
    assert [list(entry) for entry in row["ensembles"]] == [
        ["m", "groups", "accuracy", "nll", "ece", "disagreement", "std", "vs_original"]
    ] * 3
    assert [(entry["m"], entry["groups"]) for entry in row["ensembles"]] == [(1, 20), (5, 4), (10, 2)]
    assert row["ensembles"][0]["disagreement"] is None
    mine, theirs = scored_of(better).ensembles[2], originals.own.scored.ensembles[2]
    found = row["ensembles"][2]["vs_original"]["nll"]
    expected = float(mine.measures["nll"].mean() - theirs.measures["nll"].mean())
    assert found["difference"] == pytest.approx(expected)
    assert found["ci95"] == pytest.approx(list(paired_difference_ci(mine.items["nll"], theirs.items["nll"])))
    assert found["ci95"][0] < found["difference"] < found["ci95"][1] < 0
    own = summarise("original", originals.own, originals)["ensembles"]
    assert [entry["vs_original"] for entry in own] == [None] * 3
    assert own[2]["nll"] == pytest.approx(float(theirs.measures["nll"].mean()))


def test_a_broken_network_leaves_gaps_not_nan():
    originals, broken = originals_of(logits_of(10)), logits_of(10, 1)
    broken[3] = torch.nan
    scores = scores_of(broken)
    for found in (scores, scores.ensembles):
        found.outcomes["nll"].nan_to_num_(nan=torch.inf)
    row = row_of(Scored.of(scores, scores), originals)
    ten = row["ensembles"][2]
    assert ten["nll"] is None and ten["vs_original"]["nll"] == {"difference": None, "ci95": None}
    assert ten["accuracy"] is not None


def test_too_few_originals_give_no_comparison():
    row = row_of(scored_of(logits_of(10)), originals_of(logits_of(7)))
    assert [entry["vs_original"] is None for entry in row["ensembles"]] == [False, False, True]
    assert "ensembles" not in row_of(scored_of(logits_of(4)), originals_of(logits_of(7)))
