"""Image classification, and the ways to name a task."""

import math
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

from paramdiff.errors import ConfigError, TaskError
from paramdiff.seeds import seeded
from paramdiff.tasks import TASKS, make_task, plugins
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.classification import ImageClassification, Images, ImageTask
from paramdiff.tasks.configuration import OwnTask
from paramdiff.tasks.image_sources import ImageSource
from paramdiff.tasks.images import ImageData
from paramdiff.tasks.named_datasets import NAMED_DATASETS


def tiny() -> tuple[ImageData, ImageData]:
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 2, 2)
    data = ImageData(images, torch.tensor([0, 1, 2, 0, 1, 2]))
    return data, data


SOURCE = ImageSource("tiny", 3, (1, 2, 2), tiny, "mlp")


def own_task(**settings) -> ImageClassification:
    """A user's factory."""
    return ImageClassification(SOURCE, ImageTask(**settings))


INSTANCE = own_task()
NOT_A_TASK = 3


def test_outcomes_and_metrics():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    batch = (torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 1]))
    outcomes = INSTANCE.predict(logits, batch)
    assert outcomes["correct"].tolist() == [True, True, False]
    expected = -logits.log_softmax(1)[range(3), batch[1]]
    assert torch.allclose(outcomes["nll"], expected)
    assert outcomes["answer"].tolist() == [0, 1, 0]
    assert torch.allclose(outcomes["confidence"], logits.softmax(1).max(1).values)
    metrics = INSTANCE.metrics(outcomes)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["nll"] == pytest.approx(float(expected.mean()))
    assert INSTANCE.loss(logits, batch) == pytest.approx(float(expected.mean()))


@pytest.mark.parametrize(("classes", "kind"), [(256, torch.uint8), (257, torch.int16), (40_000, torch.int32)])
def test_answers_are_stored_small(classes, kind):
    task = ImageClassification(replace(SOURCE, classes=classes), ImageTask())
    logits = torch.zeros(1, classes)
    logits[0, -1] = 9
    answer = task.predict(logits, (None, torch.tensor([0])))["answer"]
    assert answer.dtype == kind and answer.tolist() == [classes - 1]


def test_an_ensemble_answers_with_the_mean_of_the_probabilities():
    outputs = [
        torch.tensor([[2.0, 0.0, 0.0], [-200.0, 0.0, 0.0]]),
        torch.tensor([[0.0, 3.0, 0.0], [-300.0, 0.0, 1.0]]),
    ]
    joint = INSTANCE.ensemble(outputs)
    assert torch.allclose(joint.exp(), torch.stack(outputs).softmax(-1).mean(0))
    assert float(joint[1, 0]) == pytest.approx(-200 - math.log(4), abs=1e-3), "no underflow"
    batch = (None, torch.tensor([1, 2]))
    alone, copies = (
        INSTANCE.predict(outputs[0], batch),
        INSTANCE.predict(INSTANCE.ensemble(outputs[:1] * 5), batch),
    )
    assert all(torch.allclose(alone[name].float(), copies[name].float(), atol=1e-5) for name in alone)


def test_smoothing_changes_the_loss_but_not_the_outcomes():
    logits, batch = torch.randn(4, 3), (None, torch.tensor([0, 1, 2, 0]))
    smooth = own_task(label_smoothing=0.3)
    log_p = logits.log_softmax(1)
    expected = -(0.7 * log_p[range(4), batch[1]] + 0.3 * log_p.mean(1)).mean()
    assert torch.allclose(smooth.loss(logits, batch), expected)
    assert torch.equal(smooth.predict(logits, batch)["nll"], INSTANCE.predict(logits, batch)["nll"])


def test_settings_reach_the_data():
    task = own_task(batch_size=4, scoring_batch_size=5, augment=Augment(flip=True), channels_last=True)
    train, test = task.train_data(), task.test_data()
    assert (train.batch_size, test.scoring_batch_size) == (4, 5)
    assert train.augment == Augment(flip=True) and not test.augment
    assert train.channels_last and test.channels_last


def test_own_statistics_replace_those_of_the_data():
    task = own_task(mean=[0.5], std=[0.25])
    (x, _) = next(task.test_data().batches())
    assert torch.allclose(x, (tiny()[1].images / 255 - 0.5) / 0.25)


def test_a_network_with_another_number_of_outputs_is_named():
    logits, batch = torch.zeros(2, 4), (None, torch.tensor([0, 1]))
    for score in (INSTANCE.loss, INSTANCE.predict):
        with pytest.raises(
            TaskError, match="^the network gives 4 outputs; expected 3, one for each class of tiny"
        ):
            score(logits, batch)


def test_named_data_sets_are_tasks_before_they_are_read():
    task = make_task("cifar100")
    assert (task.name, task.chance, task.source.shape) == ("cifar100", 0.01, (3, 32, 32))
    assert task.settings == TASKS["cifar100"] == make_task("uoft-cs/cifar100").settings
    with torch.device("meta"):
        assert task.model()(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_chance_is_the_share_of_the_most_frequent_class():
    train, test = tiny()
    uneven = replace(test, labels=torch.zeros_like(test.labels))
    task = ImageClassification(replace(SOURCE, load=lambda: (train, uneven)), ImageTask())
    assert task.chance == pytest.approx(1 / 3) and task.chance_on("test") == 1
    assert task.chance_on("train") == pytest.approx(1 / 3)


def test_digits_task():
    task = make_task("digits")
    assert (task.name, task.metric, task.higher_is_better, task.chance) == ("digits", "accuracy", True, 0.1)
    assert (len(task.train_data()), len(task.test_data())) == (1297, 500)
    ((x, _),) = [next(task.test_data().batches())]
    assert task.model()(x).shape == (len(x), 10)
    assert make_task(ImageTask(model="mlp")).model()(x).shape == (len(x), 10)


def test_memory_format_changes_no_output():
    outputs = []
    for channels_last in (False, True):
        task = ImageTask(channels_last=channels_last).make()
        with seeded("model"):
            model = task.model().eval()
        (x, _) = next(task.test_data().batches())
        outputs.append(model(x[:20]))
    assert torch.allclose(*outputs, atol=1e-5)


def test_initialisation_follows_the_global_generator():
    task = make_task("digits")
    weights = []
    for seed in (0, 0, 1):
        with seeded(seed):
            weights.append(task.model().head.weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", ["own_task", "INSTANCE"])
def test_a_users_own_task_by_name(name: str):
    assert make_task(f"{__name__}:{name}").name == "tiny"


def test_options_go_to_a_users_factory():
    task = make_task(OwnTask(f"{__name__}:own_task", {"batch_size": 2}))
    assert task.train_data().batch_size == 2


def test_entry_points(monkeypatch: pytest.MonkeyPatch):
    offered = EntryPoint("mine", f"{__name__}:own_task", TASKS.group)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [offered] if group == TASKS.group else [])
    assert make_task("mine").name == "tiny"
    with pytest.raises(
        TaskError, match=r"there is no task 'mime'; expected a built-in task.*did you mean mine"
    ):
        make_task("mime")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digit", r"^there is no task 'digit'; .*did you mean digits"),
        ("nowhere.at_all:Task", r"^cannot import nowhere.at_all for .*ModuleNotFoundError"),
        (f"{__name__}:own_tsk", r"has no 'own_tsk'; did you mean own_task"),
        (f"{__name__}:NOT_A_TASK", r"is a int; expected a paramdiff Task class"),
        (f"{__name__}:tiny", r"returned a tuple; expected a paramdiff Task$"),
        ("paramdiff.tasks.task:Task", r"failed \(TypeError: .*abstract"),
    ],
)
def test_what_is_no_task_is_explained(name: str, text: str):
    with pytest.raises(TaskError, match=text):
        make_task(name)


def test_options_for_an_instance_are_refused():
    with pytest.raises(
        TaskError, match=r"is a ImageClassification, called with the options {'batch_size': 2}"
    ):
        make_task(OwnTask(f"{__name__}:INSTANCE", {"batch_size": 2}))


def test_settings_are_checked():
    with pytest.raises(
        ConfigError,
        match=r"^data: there is no data set 'digts' .*expected a folder, an id on the Hugging Face Hub "
        r"\(user/name\), or one of digits, mnist, .*; did you mean digits",
    ):
        ImageTask(data="digts")
    with pytest.raises(ConfigError, match="image_size: digits cannot be read in another way; leave it away"):
        ImageTask(image_size=16)
    with pytest.raises(ConfigError, match="std: 0 is out of range; expected more than 0"):
        ImageTask(std=[0.5, 0, 0.5])
    with pytest.raises(ConfigError, match=r"channels: 2 is not known; expected 1 \(grey\) or 3 \(colour\)"):
        ImageTask(data="cifar10", channels=2)
    with pytest.raises(
        ConfigError, match="label_smoothing: 1 is out of range; expected at least 0 and less than 1"
    ):
        ImageTask(label_smoothing=1)
    with pytest.raises(ConfigError, match="model: 'vgg' is not known"):
        ImageTask(model="vgg").make().model()


def test_settings_are_structured_configurations():
    from omegaconf import MissingMandatoryValue, OmegaConf

    for name, kind in TASKS.all().items():
        node = OmegaConf.structured(kind)
        assert OmegaConf.get_type(node) in (ImageTask, Images, OwnTask)
        if name in NAMED_DATASETS:
            assert OmegaConf.to_object(node) == kind and kind.augment == NAMED_DATASETS[name].augment
    with pytest.raises(MissingMandatoryValue, match="data"):
        _ = OmegaConf.structured(TASKS["images"]).data
    node = OmegaConf.merge(OmegaConf.structured(ImageTask), {"model": "mlp", "augment": {"crop": 0}})
    assert OmegaConf.to_object(node) == replace(ImageTask(), model="mlp", augment=Augment())


def test_a_network_is_a_module():
    assert isinstance(own_task(model_options={"hidden": [4]}).model(), nn.Module)


def test_no_more_is_padded_than_there_is():
    task = ImageTask(augment=Augment(crop=9)).make()
    with pytest.raises(
        ConfigError, match="task.augment.crop: 9 on images of 8x8; expected no more than a side"
    ):
        task.train_data()
