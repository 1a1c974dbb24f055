"""The digits: a fixed, stratified split without overlap."""

import torch

from paramdiff.tasks.digits import CLASSES, SHAPE, load_digits, stratified_test


def test_sizes_and_classes():
    train, test = load_digits()
    assert (len(train), len(test)) == (1297, 500)
    assert train.shape == test.shape == SHAPE
    assert test.labels.bincount().tolist() == [50] * CLASSES
    assert train.labels.bincount(minlength=CLASSES).min() > 120


def test_the_split_is_fixed():
    (train, test), (again, _) = load_digits(), load_digits()
    assert torch.equal(train.images, again.images)
    # Frozen: the numbers in docs/results.md are about these items.
    assert test.labels[:12].tolist() == [2, 4, 5, 8, 0, 7, 8, 3, 8, 9, 8, 5]
    assert int(test.images.long().sum()) == 2495169


def test_train_and_test_share_the_training_statistics():
    train, test = load_digits()
    assert train.mean == test.mean and train.std == test.std
    x = torch.cat([x for x, _ in train.batches()])
    assert abs(float(x.mean())) < 1e-5


def test_seventeen_grey_levels_span_a_byte():
    train, _ = load_digits()
    levels = train.images.unique().tolist()
    assert (len(levels), levels[0], levels[-1]) == (17, 0, 255)


def test_stratification_takes_as_many_of_each_class():
    labels = torch.arange(CLASSES).repeat_interleave(torch.arange(60, 70))
    test = stratified_test(labels)
    assert labels[test].bincount().tolist() == [50] * CLASSES
