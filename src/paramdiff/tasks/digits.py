"""The 1,797 handwritten digits inside scikit-learn: 8 x 8 pixels of 16 grey levels, nothing to download.

The split is fixed and stratified: 50 items of each class are for testing (500 in all, so accuracy
comes in steps of 0.2 points), the other 1,297 for training. It follows from a key of this package,
not from scikit-learn's version.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from paramdiff.seeds import generator
from paramdiff.tasks.images import ImageData

CLASSES = 10
SHAPE = (1, 8, 8)
TEST_PER_CLASS = 50


def load_digits() -> tuple[ImageData, ImageData]:
    """(train, test): 1,297 and 500 images, normalised by the training pixels."""
    from sklearn.datasets import load_digits as read

    bunch = read()
    # Grey level 0..16 becomes 0..255, as in any other image.
    images = (torch.from_numpy(bunch.images) * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    test = stratified_test(labels)
    train = ImageData(images[~test], labels[~test])
    return train.with_statistics_of(train), ImageData(images[test], labels[test]).with_statistics_of(train)


def stratified_test(labels: Int[Tensor, "N"]) -> Bool[Tensor, "N"]:
    """Which items are for testing: the same number of each class, drawn by class."""
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(CLASSES):
        items = (labels == label).nonzero()[:, 0]
        drawn = torch.randperm(len(items), generator=generator("digits", "test", label))
        test[items[drawn[:TEST_PER_CLASS]]] = True
    return test
