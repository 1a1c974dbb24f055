"""Classes of accuracy: parts of a zoo's range of scores."""

import json
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.records import Record
from paramdiff.zoo.score_bins import assign_score_bins
from paramdiff.zoo.zoo import Zoo


def zoo_of(scores: list[float | None]) -> Zoo:
    state = {"w": torch.zeros(2)}
    records = [Record(scores={} if score is None else {"train": score}) for score in scores]
    vectors = torch.arange(2.0 * len(scores)).reshape(-1, 2)
    return Zoo(vectors, ParameterSpec.from_state_dict(state, "all"), state, records)


def classes(zoo: Zoo) -> list[int | None]:
    return [record.accuracy_class for record in zoo.records]


def test_quarters_from_the_worst_to_the_best():
    zoo = assign_score_bins(zoo_of([0.8, 0.1, 0.5, 0.3, 0.2, 0.7, 0.6, 0.4]))
    assert classes(zoo) == [3, 0, 2, 1, 0, 3, 2, 1]
    assert zoo.about["accuracy_classes"] == {
        "score": "train", "classes": 4, "bounds": pytest.approx([0.275, 0.45, 0.625]),
    }  # fmt: skip


def test_of_a_loss_the_lowest_is_best():
    zoo = assign_score_bins(zoo_of([1.0, 2.0, 3.0, 4.0]), bins=2, higher_is_better=False)
    assert classes(zoo) == [1, 1, 0, 0]
    assert zoo.about["accuracy_classes"]["bounds"] == [2.5]


def test_members_without_a_finite_score_have_no_class():
    zoo = zoo_of([0.1, None, float("nan"), 0.9])
    assert classes(assign_score_bins(zoo, bins=2)) == [0, None, None, 1]
    assert classes(zoo) == [None] * 4  # the given zoo is left alone
    unscored = zoo_of([None, None])
    assert assign_score_bins(unscored) is unscored


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 6))
def test_classes_follow_the_scores(scores: list[float], count: int):
    found = list(zip(scores, classes(assign_score_bins(zoo_of(scores), bins=count))))
    assert all(a <= b for (_, a), (_, b) in zip(sorted(found), sorted(found)[1:]))
    assert {part for _, part in found} <= set(range(count))


@given(st.integers(1, 10), st.integers(1, 6))
def test_classes_of_different_scores_are_of_one_size(size: int, count: int):
    found = Counter(classes(assign_score_bins(zoo_of([float(i) for i in range(size * count)]), bins=count)))
    assert found == dict.fromkeys(range(count), size)


def test_classes_are_saved_and_older_zoos_have_none(tmp_path):
    assign_score_bins(zoo_of([0.1, 0.9]), bins=2).save(tmp_path / "zoo")
    back = Zoo.load(tmp_path / "zoo")
    assert classes(back) == [0, 1] and back.about["accuracy_classes"]["bounds"] == [0.5]
    manifest = json.loads((tmp_path / "zoo/manifest.json").read_text())
    for record in manifest["records"]:
        del record["accuracy_class"]
    (tmp_path / "zoo/manifest.json").write_text(json.dumps(manifest))
    assert classes(Zoo.load(tmp_path / "zoo")) == [None, None]


def test_a_merged_zoo_has_to_be_classified_again():
    low, high = (assign_score_bins(zoo_of(scores)) for scores in ([0.1, 0.2], [0.8, 0.9]))
    both = Zoo.merge(low, high)
    assert classes(both) == [None] * 4 and "accuracy_classes" not in both.about
    assert classes(assign_score_bins(both, bins=2)) == [0, 0, 1, 1]
    assert classes(Zoo.merge(low)) == classes(low)
