# ruff: noqa: E501 (the table has one line for each set)
"""Data sets that can be used by a short name: the paper's eight, SVHN and Fashion-MNIST.

Sizes are those at which the paper's parameter counts come out: 28 for MNIST (Table 10's MLP starts from
784 inputs), 32 for CIFAR, 96 for STL-10; 224 where its networks were pretrained on ImageNet. Statistics are
those of the training pixels, and of ImageNet for the sets of 224 pixels, whose networks come with them.
"""

from dataclasses import dataclass, field

from paramdiff.tasks.augment import Augment


@dataclass(frozen=True)
class NamedDataset:
    """What is known of a data set before it is read.

    Attributes:
        hub: id on the Hugging Face Hub.
        classes: number of classes.
        size: pixels of a side.
        mean: of each channel, on a scale of 0..1.
        std: likewise.
        augment: changes of training images that suit it.
        config: configuration on the Hub, where there are several.
        label: column of the labels, where there are several.
        test: split of the test data, where ``test`` has no labels.
    """

    hub: str
    classes: int
    size: int
    mean: list[float]
    std: list[float]
    augment: Augment = field(default_factory=Augment)
    config: str | None = None
    label: str | None = None
    test: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return len(self.mean), self.size, self.size


_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_PHOTO = Augment(flip=True, zoom=0.25)

# fmt: off
NAMED_DATASETS: dict[str, NamedDataset] = {
    "mnist": NamedDataset("ylecun/mnist", 10, 28, [0.1307], [0.3081], Augment(crop=2)),
    "fashion_mnist": NamedDataset("zalando-datasets/fashion_mnist", 10, 28, [0.2860], [0.3530], Augment(crop=2, flip=True)),
    "cifar10": NamedDataset("uoft-cs/cifar10", 10, 32, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616], Augment(crop=4, flip=True)),
    "cifar100": NamedDataset("uoft-cs/cifar100", 100, 32, [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762], Augment(crop=4, flip=True), label="fine_label"),
    "svhn": NamedDataset("ufldl-stanford/svhn", 10, 32, [0.4377, 0.4438, 0.4728], [0.1980, 0.2010, 0.1970], Augment(crop=4), config="cropped_digits"),
    "stl10": NamedDataset("tanganke/stl10", 10, 96, [0.4467, 0.4398, 0.4066], [0.2603, 0.2566, 0.2713], Augment(crop=12, flip=True)),
    "flowers102": NamedDataset("dpdl-benchmark/oxford_flowers102", 102, 224, *_IMAGENET, _PHOTO),
    "pets": NamedDataset("timm/oxford-iiit-pet", 37, 224, *_IMAGENET, _PHOTO, label="label"),
    "food101": NamedDataset("ethz/food101", 101, 224, *_IMAGENET, _PHOTO),
    "imagenet1k": NamedDataset("ILSVRC/imagenet-1k", 1000, 224, *_IMAGENET, _PHOTO, test="validation"),
}
# fmt: on

NAMES = ["digits", *NAMED_DATASETS]
"""Every short name: with the digits, which come with scikit-learn (:mod:`paramdiff.tasks.digits`)."""


def short_name(name: str) -> str | None:
    """The short name behind a short name or a Hub id; None for a set that is not in the table."""
    by_id = {entry.hub.lower(): short for short, entry in NAMED_DATASETS.items()}
    return name if name in NAMED_DATASETS else by_id.get(name.lower())
