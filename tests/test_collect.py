"""Collectors: what is trained, what stays, and that a kill changes no bit."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paramdiff.collectors import (
    COLLECTORS,
    CheckpointCollector,
    Collector,
    SeedCollector,
    TrainingConfig,
    TrajectoryCollector,
    optimisation,
)
from paramdiff.collectors.optimisation import Optimisation
from paramdiff.collectors.processes import can_fork
from paramdiff.collectors.seeds import ONE_THREAD, suitable_processes
from paramdiff.devices import suitable_threads
from paramdiff.errors import CheckpointError, ConfigError, NumericalError, SelectionError, ZooError
from paramdiff.files import load_tensors, save_tensors
from paramdiff.seeds import generator
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.classification import ImageClassification, ImageTask
from paramdiff.tasks.image_sources import ImageSource
from paramdiff.tasks.images import ImageData
from paramdiff.training import Training
from paramdiff.zoo.inspection import inspect
from paramdiff.zoo.state_dicts import load_weights
from paramdiff.zoo.zoo import Zoo


def blobs() -> tuple[ImageData, ImageData]:
    """Two classes of 4 x 4 images: bright on the left, or on the right."""
    labels = torch.arange(64) % 2
    noise = torch.randint(0, 100, (64, 1, 4, 4), generator=generator("blobs"))
    bright = torch.zeros(64, 1, 4, 4, dtype=torch.long)
    bright[labels == 0, :, :, :2] = 60
    bright[labels == 1, :, :, 2:] = 60
    data = ImageData((noise + bright).to(torch.uint8), labels)
    data = data.with_statistics_of(data)
    return data, data


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


SETTINGS = ImageTask(model=f"{__name__}:network", batch_size=16, augment=Augment(crop=1))
NORMS = ["1.weight", "1.bias", "5.weight", "5.bias"]


def task(**changes) -> ImageClassification:
    return ImageClassification(ImageSource("blobs", 2, (1, 4, 4), blobs), replace(SETTINGS, **changes))


SUBSET = TrajectoryCollector(k=6, lr=1e-2, pretrain=TrainingConfig(epochs=2, lr=1e-2))
ALL = replace(SUBSET, select="all")
LONGER = TrainingConfig(epochs=15, lr=1e-2)
SEEDS = SeedCollector(k=3, train=TrainingConfig(epochs=2, lr=1e-2))
TRAINING_COLLECTORS = {
    "subset": SUBSET,
    "all": ALL,
    "momentum": replace(SUBSET, optimizer="sgd", every=2),
    "seeds": SEEDS,
}


def equal(a: Zoo, b: Zoo) -> bool:
    same_base = a.base.keys() == b.base.keys() and all(
        torch.equal(a.base[key], b.base[key]) for key in a.base
    )
    return torch.equal(a.vectors, b.vectors) and same_base and a.records == b.records and a.about == b.about


class Killed(BaseException):
    """A kill: nothing in the package catches it."""


class Doomed(ImageClassification):
    """Dies in its n-th loss."""

    lives = 0

    def loss(self, outputs: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        if self.lives == 0:
            raise Killed
        self.lives -= 1
        return super().loss(outputs, batch)


def doomed(lives: int) -> Doomed:
    new = Doomed(ImageSource("blobs", 2, (1, 4, 4), blobs), SETTINGS)
    new.lives = lives
    return new


def killed_until_done(collector: Collector, folder: Path) -> tuple[Zoo, int]:
    """The zoo that is there in the end, and how many kills that took."""
    kills = 0
    while True:
        try:
            return collector.collect(doomed(lives=3), folder), kills
        except Killed:
            kills += 1


@pytest.fixture
def saves_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(*args, **kwargs) -> Training:
        return Training(*args, **kwargs, save_every_s=0.0)

    monkeypatch.setattr("paramdiff.collectors.optimisation.Training", eager)
    monkeypatch.setattr("paramdiff.collectors.trajectory.Training", eager)


@pytest.mark.usefixtures("saves_every_step")
@pytest.mark.parametrize("collector", TRAINING_COLLECTORS.values(), ids=TRAINING_COLLECTORS)
def test_killed_again_and_again_ends_with_the_same_bits(collector: Collector, tmp_path: Path):
    whole = collector.collect(task(), tmp_path / "whole")
    broken, kills = killed_until_done(collector, tmp_path / "broken")
    assert kills >= 4
    assert equal(broken, whole)


@pytest.mark.parametrize("collector", TRAINING_COLLECTORS.values(), ids=TRAINING_COLLECTORS)
def test_a_kill_between_saves_ends_with_the_same_bits(collector: Collector, tmp_path: Path):
    whole = collector.collect(task(), tmp_path / "whole")
    with pytest.raises(Killed):
        collector.collect(doomed(lives=11), tmp_path / "broken")
    torch.manual_seed(7)  # whatever the new process holds
    assert equal(collector.collect(task(), tmp_path / "broken"), whole)


def test_only_the_selected_tensors_move(tmp_path: Path):
    zoo = SUBSET.collect(task(), tmp_path)
    trained = load_tensors_of(tmp_path / "pretrain.safetensors")
    assert zoo.spec.names == NORMS
    for name, tensor in zoo.base.items():
        assert torch.equal(tensor, trained[name]) == (name not in NORMS), name
    assert len(zoo.vectors.unique(dim=0)) == 6


@pytest.fixture
def two_threads() -> Iterator[None]:
    """So that seeds are trained in two processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")
@pytest.mark.usefixtures("two_threads")
def test_seeds_have_the_same_bits_in_processes(tmp_path: Path):
    torch.rand(300, 300) @ torch.rand(300, 300)  # threads are running when processes are forked
    many = SEEDS.collect(task(), tmp_path / "many")
    assert suitable_processes(many.dim, "cpu") == 2 == torch.get_num_threads()
    torch.set_num_threads(1)
    assert equal(many, SEEDS.collect(task(), tmp_path / "one"))
    assert not list(tmp_path.glob("*/training-*"))


@pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")
@pytest.mark.usefixtures("two_threads", "saves_every_step")
def test_processes_that_are_killed_end_with_the_same_bits(tmp_path: Path):
    whole = SEEDS.collect(task(), tmp_path / "whole")
    broken, kills = killed_until_done(SEEDS, tmp_path / "broken")
    assert kills >= 1
    assert equal(broken, whole)


@pytest.mark.usefixtures("two_threads")
def test_a_seed_that_explodes_is_named(tmp_path: Path):
    wild = replace(SEEDS, train=TrainingConfig(optimizer="sgd", lr=1e6, epochs=2))
    with pytest.raises(NumericalError, match=r"^seed \d: .*lower the learning rate"):
        wild.collect(task(), tmp_path)


def test_processes_are_for_what_one_thread_can_do_on_the_cpu():
    assert suitable_processes(ONE_THREAD, "cpu") == suitable_processes(10, "cuda") == 1


@pytest.mark.parametrize("collector", [SUBSET, SEEDS], ids=["subset", "seeds"])
def test_members_have_classes_of_accuracy(collector: Collector, tmp_path: Path):
    zoo = collector.collect(task(), tmp_path / "state")
    assert zoo.about["accuracy_classes"]["score"] == "train"
    bounds = zoo.about["accuracy_classes"]["bounds"]
    assert [r.accuracy_class for r in zoo.records] == [
        sum(r.scores["train"] >= bound for bound in bounds) for r in zoo.records
    ]
    zoo.save(tmp_path / "zoo")
    imported = CheckpointCollector(str(tmp_path / "zoo"), k=2).collect(task(), tmp_path / "unused")
    assert sorted(r.accuracy_class for r in imported.records)[-1] == 3  # among the two that were kept


@pytest.mark.parametrize("collector", [SUBSET, SEEDS], ids=["subset", "seeds"])
def test_barely_trained_members_are_told(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr("paramdiff.collectors.collector.say", said.append)
    short = TrainingConfig(epochs=1, lr=1e-9)
    idle = (
        replace(collector, lr=1e-9, pretrain=short)
        if isinstance(collector, TrajectoryCollector)
        else replace(collector, train=short)
    )
    zoo = idle.collect(task(batch_size=50), tmp_path / "state")
    assert zoo.about["training"] == {"epochs": 1, "updates_per_epoch": 2, "updates": 2, "items": 64}
    assert said[0] == "  2 updates a training: 1 epoch of 2 over 64 items"
    assert "near chance on the training data after 2 updates (mean accuracy" in said[1]
    assert inspect(zoo).recommendations[0].startswith("The originals themselves are near chance")
    zoo.save(tmp_path / "zoo")
    again = CheckpointCollector(str(tmp_path / "zoo")).collect(task(), tmp_path / "unused")
    assert again.about["near_chance"] == zoo.about["near_chance"] and len(said) == 3
    trained = replace(SUBSET, pretrain=LONGER).collect(task(), tmp_path / "longer")
    assert "near_chance" not in trained.about and len(said) == 4


def load_tensors_of(path: Path) -> dict[str, Tensor]:
    prefix = "/parts/model/"
    return {
        key.removeprefix(prefix): value for key, value in load_tensors(path).items() if key.startswith(prefix)
    }


def test_the_frozen_part_is_not_trained_through_the_seams(tmp_path: Path):
    """The vectors equal those of a plain loop in eval mode over the whole network."""
    collector = replace(SUBSET, k=3, optimizer="sgd", momentum=0.0, lr=0.1)
    zoo = collector.collect(task(), tmp_path)
    model = network().eval()
    model.load_state_dict(load_tensors_of(tmp_path / "pretrain.safetensors"))
    data = task().train_data()
    batches = list(data.shuffled(optimisation.mix("collect", 0, 0)))[:3]
    parameters = [model.get_parameter(name) for name in NORMS]
    for v, (x, y) in zip(zoo.vectors, batches):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                parameter.sub_(0.1 * gradient)
        assert torch.allclose(v, zoo.spec.flatten(model.state_dict()), atol=1e-6)


def test_running_statistics_move_when_they_are_selected(tmp_path: Path):
    zoo = ALL.collect(task(), tmp_path)
    means = zoo.vectors[:, zoo.spec.slices["1.running_mean"]]
    assert len(means.unique(dim=0)) == 6


def test_frozen_statistics_stay_when_others_are_selected(tmp_path: Path):
    zoo = replace(SUBSET, select="5").collect(task(), tmp_path)
    trained = load_tensors_of(tmp_path / "pretrain.safetensors")
    assert torch.equal(zoo.base["1.running_mean"], trained["1.running_mean"])
    assert not torch.equal(zoo.base["5.running_mean"], trained["5.running_mean"])


def test_every_counts_steps(tmp_path: Path):
    dense = SUBSET.collect(task(), tmp_path / "dense")
    sparse = replace(SUBSET, k=3, every=2).collect(task(), tmp_path / "sparse")
    assert torch.equal(sparse.vectors, dense.vectors[1::2])
    assert [record.step for record in sparse.records] == [2, 4, 6]
    assert [record.step for record in dense.records] == [1, 2, 3, 4, 5, 6]


def test_a_zoo_of_seeds_is_of_independent_trainings(tmp_path: Path):
    zoo = SEEDS.collect(task(), tmp_path / "a")
    later = replace(SEEDS, k=2, seed=2).collect(task(), tmp_path / "b")
    assert torch.equal(zoo.vectors[2], later.vectors[0])
    assert [record.seed for record in zoo.records] == [0, 1, 2]
    assert not zoo.trajectory
    assert zoo.dim == sum(t.numel() for t in network().state_dict().values() if t.is_floating_point())


@pytest.mark.parametrize(
    "collector", [replace(SUBSET, pretrain=LONGER), replace(SEEDS, train=LONGER)], ids=["subset", "seeds"]
)
def test_recorded_scores_are_those_of_the_plain_model(
    collector: TrajectoryCollector | SeedCollector, tmp_path: Path
):
    zoo = collector.collect(task(), tmp_path)
    data = task().train_data()
    for v, record in zip(zoo.vectors, zoo.records):
        model = network().eval()
        model.load_state_dict(zoo.state_dict(v))
        right = torch.cat([model(x).argmax(1) == y for x, y in data.batches()])
        assert record.scores["train"] == pytest.approx(float(right.double().mean()))
    assert min(record.scores["train"] for record in zoo.records) > 0.9


def test_starting_from_given_weights(tmp_path: Path):
    SUBSET.collect(task(), tmp_path / "trained")
    state = load_tensors_of(tmp_path / "trained/pretrain.safetensors")
    save_tensors(tmp_path / "start.safetensors", state)
    zoo = replace(SUBSET, weights=str(tmp_path / "start.safetensors")).collect(task(), tmp_path / "new")
    assert not (tmp_path / "new/pretrain.safetensors").exists()
    assert torch.equal(zoo.vectors, SUBSET.collect(task(), tmp_path / "trained").vectors)
    del state["7.bias"]
    save_tensors(tmp_path / "start.safetensors", state | {"head.bias": torch.zeros(2)})
    with pytest.raises(
        CheckpointError, match=r"task's network \(7.bias is missing, head.bias has no place\); expected"
    ):
        replace(SUBSET, weights=str(tmp_path / "start.safetensors")).collect(task(), tmp_path / "other")


def test_weights_of_another_shape_are_named():
    state = network().state_dict() | {"7.bias": torch.zeros(5)}
    with pytest.raises(CheckpointError, match=r"^here does not fit .*\(7.bias has shape \[5\], not \[2\]\)"):
        load_weights(network(), state, "here")


def test_of_tied_weights_one_is_enough():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    state = {"0.weight": torch.eye(3), "0.bias": torch.zeros(3), "1.bias": torch.ones(3)}
    load_weights(model, state, "here")
    assert torch.equal(model[1].weight, torch.eye(3))


def test_importing_a_folder_and_a_saved_zoo(tmp_path: Path):
    zoo = SUBSET.collect(task(), tmp_path / "state")
    for index, v in enumerate(zoo.vectors):
        save_tensors(tmp_path / f"files/step_{index}.safetensors", zoo.state_dict(v))
    zoo.save(tmp_path / "zoo")
    for path in ("files", "zoo"):
        imported = CheckpointCollector(str(tmp_path / path)).collect(task(), tmp_path / "unused")
        assert torch.equal(imported.vectors, zoo.vectors)
        assert [r.scores["train"] for r in imported.records] == [r.scores["train"] for r in zoo.records]
    assert not (tmp_path / "unused").exists()


def test_importing_a_zoo_of_another_network(tmp_path: Path):
    SUBSET.collect(task(), tmp_path / "state").save(tmp_path / "zoo")
    other = task(model="mlp")
    with pytest.raises(CheckpointError, match=r"zoo does not fit the task's network"):
        CheckpointCollector(str(tmp_path / "zoo")).collect(other, tmp_path)


def test_a_training_that_explodes_is_named(tmp_path: Path):
    wild = replace(SUBSET, optimizer="sgd", pretrain=TrainingConfig(optimizer="sgd", epochs=2))
    wild.pretrain.lr = 1e30  # more than the settings would take
    with pytest.raises(NumericalError, match=r"pretrain.*lower the learning rate"):
        wild.collect(task(), tmp_path / "a")
    with pytest.raises(NumericalError, match=r"collect.*lower the learning rate"):
        wild.pretrain.lr, wild.lr = 1e-3, 1e38
        wild.collect(task(), tmp_path / "b")


def test_selections_that_cannot_be_collected(tmp_path: Path):
    with pytest.raises(
        SelectionError, match=r"none of the selected tensors \(5.running_var\) is a parameter"
    ):
        replace(SUBSET, select="5.running_var").collect(task(), tmp_path)
    with pytest.raises(SelectionError, match=r"'last_norms:2' leaves out 0.weight, .*use select=all"):
        replace(SEEDS, select="last_norms:2").collect(task(), tmp_path)
    with pytest.raises(SelectionError, match=r"'norm9' matches no tensor"):
        replace(SUBSET, select="norm9").collect(task(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_callers_threads_and_generator_are_left_alone(tmp_path: Path):
    before, small = torch.get_num_threads(), network()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    torch.set_num_threads(2)
    try:
        with suitable_threads(sum(p.numel() for p in small.parameters())):
            assert torch.get_num_threads() == 1
        SUBSET.collect(task(), tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.rand(1), expected)


def test_schedules():
    config = TrainingConfig(lr=2.0, warmup=0.5, schedule="cosine")
    rates = [config.rate(step, 10) for step in range(10)]
    assert rates[:5] == pytest.approx([2 * i / 6 for i in range(1, 6)])
    assert rates[5] == 2.0 and rates == sorted(rates[:6]) + sorted(rates[6:], reverse=True)
    assert TrainingConfig(lr=2.0, schedule="constant").rate(9, 10) == 2.0


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_optimisers(name: str, kind: str):
    weight = nn.Parameter(torch.ones(3))
    made = Optimisation(optimizer=name, lr=0.5, momentum=0.3, weight_decay=0.1).over([weight])
    assert type(made).__name__ == kind
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.5, 0.1)
    assert made.defaults.get("momentum", 0.3) == 0.3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TrajectoryCollector(lr=0), "lr: 0 is out of range; expected more than 0"),
        (lambda: TrajectoryCollector(k=0), "k: 0 is out of range; expected at least 2"),
        (lambda: TrajectoryCollector(every=0), "every: 0 is out of range"),
        (lambda: TrajectoryCollector(optimizer="adm"), "optimizer: 'adm' is not known; .*; did you mean adam"),
        (lambda: SeedCollector(k=-1), "k: -1 is out of range"),
        (lambda: TrainingConfig(epochs=-1), "epochs: -1 is out of range"),
        (lambda: SeedCollector(train=TrainingConfig(epochs=0)), "train.epochs: 0 is out of range"),
        (lambda: TrainingConfig(schedule="cos"), "schedule: 'cos' is not known; .*did you mean cosine"),
        (lambda: TrainingConfig(warmup=1.0), "warmup: 1.0 is out of range"),
    ],
)  # fmt: skip
def test_settings_are_checked(make: Callable[[], object], text: str):
    with pytest.raises(ConfigError, match=text):
        make()


def test_settings_are_structured_configurations():
    from omegaconf import OmegaConf

    assert set(COLLECTORS.all()) == {"subset", "seeds", "import"}
    for kind in COLLECTORS.all().values():
        OmegaConf.structured(kind)
    node = OmegaConf.merge(OmegaConf.structured(TrajectoryCollector), {"k": 3, "pretrain": {"epochs": 1}})
    assert OmegaConf.to_object(node) == TrajectoryCollector(k=3, pretrain=TrainingConfig(epochs=1))


class OneParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.flatten(1)[:, :10]


def test_one_parameter_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    single = task()
    monkeypatch.setattr(single, "model", OneParameter)
    for collector in (replace(SUBSET, select="scale"), SEEDS):
        with pytest.raises(ZooError, match="holds D = 1 parameter; expected at least 2; select more tensors"):
            collector.collect(single, tmp_path)
    assert not list(tmp_path.iterdir())
