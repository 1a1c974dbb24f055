"""Scores against the plain network run one by one; what is kept between calls; NaN; feedback; error texts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from paramdiff.errors import TaskError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.scoring import batches as batching
from paramdiff.scoring import scorer as module
from paramdiff.scoring.batches import joined, random_subset, rows
from paramdiff.scoring.outcomes import _broken_items
from paramdiff.scoring.output_groups import Waiting, order
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks.task import Task
from paramdiff.zoo.zoo import Zoo


class Items:
    """Batches cut from tensors that share their first axis; counts how often it is read."""

    def __init__(self, *tensors, size=16):
        self.tensors, self.size, self.reads = tensors, size, 0

    def __len__(self):
        return len(self.tensors[0])

    @property
    def steps(self):
        return -(-len(self) // self.size)

    def batches(self):
        self.reads += 1
        yield from zip(*(tensor.split(self.size) for tensor in self.tensors), strict=True)

    def shuffled(self, seed):
        yield from self.batches()


class Digits(Task):
    """Noise images with labels, a convolutional network with BatchNorm."""

    name = "digits"

    def __init__(self, size=16, items=50):
        g = torch.Generator().manual_seed(0)
        x = torch.randn(items, 1, 8, 8, generator=g)
        self.data = Items(x, x.mean((1, 2, 3)).gt(0).long(), size=size)

    def model(self):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
        )  # fmt: skip

    def train_data(self):
        return self.data

    test_data = train_data

    def loss(self, outputs, batch):
        return cross_entropy(outputs, batch[-1])

    def predict(self, outputs, batch):
        nll = cross_entropy(outputs, batch[-1], reduction="none")
        return {"correct": outputs.argmax(-1) == batch[-1], "nll": nll}

    def metrics(self, outcomes):
        return {"nll": float(outcomes["nll"].mean()), "accuracy": float(outcomes["correct"].double().mean())}


class Regression(Digits):
    name, metric, higher_is_better = "regression", "mse", False

    def predict(self, outputs, batch):
        return {"error": (outputs[:, 0] - batch[-1]).square()}

    def metrics(self, outcomes):
        return {"mse": float(outcomes["error"].mean())}


def make(task, select="last_norms:1", n=5):
    """A zoo of one network and n vectors around it, with running statistics unlike any batch's."""
    torch.manual_seed(1)
    model = task.model()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    spec = ParameterSpec.from_model(model, select)
    v = spec.flatten(model.state_dict())
    vectors = v * (1 + 0.5 * torch.rand(n, spec.dim))  # keeps running variances positive
    return Zoo(vectors, spec, model.state_dict()), vectors


def counting(monkeypatch, scorer):
    monkeypatch.setattr(batching, "MOST_ITEMS", 16)
    calls = []
    original = scorer.shared.prefix
    monkeypatch.setattr(scorer.shared, "prefix", lambda *inputs: calls.append(1) or original(*inputs))
    return calls


@pytest.mark.parametrize("select", ["last_norms:1", "all", "8.*"])
def test_scores_are_those_of_the_plain_networks(select):
    task = Digits()
    zoo, vectors = make(task, select)
    scores = Scorer(task, zoo).score(vectors, "test")
    x, y = task.data.tensors
    for i, v in enumerate(vectors):
        model = task.model()
        model.load_state_dict(zoo.state_dict(v))
        with torch.no_grad():
            outputs = model.eval()(x)
        nll = cross_entropy(outputs, y, reduction="none")
        torch.testing.assert_close(scores.outcomes["nll"][i], nll, rtol=1e-4, atol=1e-5)
        assert torch.equal(scores.outcomes["correct"][i], outputs.argmax(1) == y)
    assert list(scores.metrics) == ["accuracy", "nll"]
    assert torch.equal(scores.metric, scores.outcomes["correct"].double().mean(1))
    torch.testing.assert_close(scores.nll, scores.metrics["nll"], rtol=1e-5, atol=0)


def test_outcomes_are_stored_small():
    task = Digits()
    zoo, vectors = make(task)
    outcomes = Scorer(task, zoo).score(vectors, "train").outcomes
    assert {name: value.dtype for name, value in outcomes.items()} == {
        "correct": torch.bool, "nll": torch.float32,
    }  # fmt: skip
    assert outcomes["correct"].shape == (5, 50)


def test_scores_do_not_depend_on_the_batches(monkeypatch):
    zoo, vectors = make(Digits())
    large = Scorer(Digits(size=50), zoo).score(vectors, "train")
    monkeypatch.setattr(batching, "MOST_ITEMS", 7)
    small = Scorer(Digits(size=7), zoo).score(vectors, "train")
    torch.testing.assert_close(small.outcomes["nll"], large.outcomes["nll"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("budget", "later"), [(1 << 30, 0), (20_000, 3), (0, 4)])
def test_boundaries_are_kept_within_the_budget(monkeypatch, budget, later):
    """A batch of 16 with its boundary takes 16 * (64 + 6 * 36) * 4 + 128 bytes = 18 kB, the last one 2 kB."""
    task = Digits()
    zoo, vectors = make(task)
    scorer = Scorer(task, zoo, cache_bytes=budget)
    calls = counting(monkeypatch, scorer)
    first = scorer.score(vectors, "train")
    assert len(calls) == 4
    task.data.reads = 0
    again = scorer.score(vectors, "train")
    assert len(calls) - 4 == later
    assert (task.data.reads == 0) == (budget == 1 << 30)
    assert torch.equal(first.outcomes["nll"], again.outcomes["nll"])


def test_a_network_of_nan_is_wrong_and_harms_no_other():
    task = Digits()
    zoo, vectors = make(task)
    scorer = Scorer(task, zoo)
    good = scorer.score(vectors, "train")
    broken = vectors.clone()
    broken[2] = torch.nan
    scores = scorer.score(broken, "train")
    assert not scores.outcomes["correct"][2].any()
    assert scores.outcomes["nll"][2].isinf().all()
    assert scores.metric[2] == 0
    others = [0, 1, 3, 4]
    assert torch.equal(scores.outcomes["nll"][others], good.outcomes["nll"][others])


def test_infinite_logits_are_wrong_but_masked_ones_are_not():
    outputs = torch.tensor([[0.0, 1.0], [torch.inf, 1.0], [-torch.inf, 1.0], [torch.nan, 1.0]])
    broken = _broken_items({"logits": outputs, "other": torch.tensor([torch.nan])}, 4, torch.device("cpu"))
    assert broken.tolist() == [False, True, False, True]


def test_a_metric_of_nan_is_the_worst():
    task = Regression()
    zoo, vectors = make(task)
    vectors[1] = torch.nan
    assert Scorer(task, zoo).score(vectors, "train").metric[1] == torch.inf


def test_an_untraceable_network_is_announced_once(monkeypatch):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 2)
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x):
            x = self.layer(x.flatten(1))
            return self.norm(x if x.sum() > 0 else -x)

    task = Digits()
    task.model = Branching
    said = []
    monkeypatch.setattr(module, "say", said.append)
    zoo, vectors = make(task)
    scorer = Scorer(task, zoo, cache_bytes=0)
    for _ in range(2):
        scorer.score(vectors, "train")
    assert len(said) == 1
    assert "the whole network runs for every sample" in said[0]


def test_building_the_network_moves_no_random_stream():
    task = Digits()
    zoo, _ = make(task)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Scorer(task, zoo)
    assert torch.equal(torch.rand(3), expected)


# Feedback


def test_equal_networks_are_computed_once(monkeypatch: pytest.MonkeyPatch):
    """The mean of the zoo is drawn as often as any other sample."""
    task = Digits(items=50)
    zoo, vectors = make(task)
    twice = vectors[[0, 1, 0, 0, 1]]
    expected = Scorer(task, zoo).score(vectors, "test").metric[[0, 1, 0, 0, 1]]
    scorer, computed = Scorer(task, zoo), []
    scorer.score(vectors, "test")  # the first use also checks the split
    suffix = scorer.shared.suffix
    monkeypatch.setattr(scorer.shared, "suffix", lambda *given: computed.append(1) or suffix(*given))
    assert torch.equal(scorer.score(twice, "test").metric, expected)
    assert len(computed) == 2, "50 items are one joined batch"


def test_feedback_scores_a_fixed_subset():
    task = Digits(items=200)
    zoo, vectors = make(task)
    feedback = Scorer(task, zoo).feedback(40)
    scores = feedback(vectors)
    assert scores.shape == (5,)
    assert torch.equal(scores, Scorer(task, zoo).feedback(40)(vectors))
    assert ((scores * 40).round() - scores * 40).abs().max() < 1e-9
    assert not torch.equal(scores, Scorer(task, zoo).score(vectors, "train").metric)


def test_feedback_reads_the_data_once_and_late():
    task = Digits(items=200)
    zoo, vectors = make(task)
    feedback = Scorer(task, zoo).feedback(40)
    assert task.data.reads == 0
    feedback(vectors)
    reads = task.data.reads
    feedback(vectors[:2])
    assert task.data.reads == reads


def test_training_scores_take_the_tasks_selection_items():
    """A fixed subset, the same for every generator; the test data is always read whole."""
    task = Digits(items=200)
    task.selection_items = 40
    zoo, vectors = make(task)
    scores = Scorer(task, zoo).score(vectors, "train")
    assert scores.outcomes["correct"].shape == (len(vectors), 40)
    assert torch.equal(scores.metric, Scorer(task, zoo).feedback(40)(vectors))
    assert Scorer(task, zoo).score(vectors, "test").outcomes["correct"].shape[1] == 200


def test_feedback_of_all_items_is_the_score_and_higher_is_better():
    task = Regression()
    zoo, vectors = make(task)
    scorer = Scorer(task, zoo)
    assert torch.equal(scorer.feedback(1000)(vectors), -scorer.score(vectors, "train").metric)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), size=st.integers(1, 20), items=st.integers(1, 70))
def test_a_subset_holds_distinct_items_in_order(n, size, items):
    data = Items(torch.arange(n), torch.arange(n) * 2, size=size)
    x, y = (torch.cat(column) for column in zip(*random_subset(data, items), strict=True))
    assert len(x) == min(n, items)
    assert bool((x.diff() > 0).all())
    assert torch.equal(y, x * 2)


class Boxes(Items):
    """Batches that cannot be cut: lists of tensors of different lengths, and text."""

    def batches(self):
        for (images,) in super().batches():
            yield [images, images[:1]], "a caption"


def test_batches_that_cannot_be_cut_are_kept_whole():
    batches = list(random_subset(Boxes(torch.arange(400), size=4), 100))
    assert rows(batches[0]) is None
    assert all(len(batch[0][0]) == 4 for batch in batches)
    assert 60 <= sum(len(batch[0][0]) for batch in batches) <= 140


# Ensembles


class Voting(Digits):
    """Digits whose networks are averaged in probability."""

    def ensemble(self, outputs):
        return torch.stack(outputs).softmax(-1).mean(0).log()


GROUPS = [(0, 2, 4), (1, 3), (4, 1, 0), (2,)]


@pytest.mark.parametrize("most", [512, 16])
def test_ensembles_are_those_of_the_plain_networks(monkeypatch, most):
    monkeypatch.setattr(batching, "MOST_ITEMS", most)
    task = Voting()
    zoo, vectors = make(task)
    scores = Scorer(task, zoo).score(vectors, "test", GROUPS)
    x, y = task.data.tensors
    p = []
    for v in vectors:
        model = task.model()
        model.load_state_dict(zoo.state_dict(v))
        with torch.no_grad():
            p.append(model.eval()(x).softmax(-1))
    for row, group in enumerate(GROUPS):
        mean = torch.stack([p[member] for member in group]).mean(0)
        torch.testing.assert_close(
            scores.ensembles.outcomes["nll"][row], -mean[range(50), y].log(), rtol=1e-4, atol=1e-5
        )
        assert torch.equal(scores.ensembles.outcomes["correct"][row], mean.argmax(1) == y)
    assert scores.ensembles.metric.shape == (4,)
    alone = Scorer(task, zoo).score(vectors, "test")
    assert alone.ensembles is None
    assert torch.equal(alone.outcomes["nll"], scores.outcomes["nll"]), "in the order of the vectors"


def test_a_task_without_ensembles_has_none():
    task = Regression()
    zoo, vectors = make(task)
    assert Scorer(task, zoo).score(vectors, "test", GROUPS).ensembles is None


def test_ensembles_of_equal_networks_are_these_networks(monkeypatch):
    task = Voting()
    zoo, vectors = make(task)
    scorer, combined = Scorer(task, zoo), []
    monkeypatch.setattr(
        task, "ensemble", lambda outputs: combined.append(len(outputs)) or Voting.ensemble(task, outputs)
    )
    groups = [(0, 1), (2, 3), (4, 5), (0, 4), (1, 5), (0, 0, 4)]
    scores = scorer.score(vectors[[0, 0, 0, 0, 1, 1]], "test", groups)
    assert sorted(combined) == [1, 1, 2, 3], (
        "each group of distinct networks once; a copy counts twice beside another"
    )
    nll, joint = scores.outcomes["nll"], scores.ensembles.outcomes["nll"]
    for row, network in enumerate((0, 0, 4)):
        torch.testing.assert_close(joint[row], nll[network])
    assert torch.equal(joint[3], joint[4])
    p = (2 * (-nll[0]).exp() + (-nll[4]).exp()) / 3
    torch.testing.assert_close(joint[5], -p.log())


def test_an_ensemble_with_a_network_of_nan_is_wrong():
    task = Voting()
    zoo, vectors = make(task)
    vectors[1] = torch.nan
    joint = Scorer(task, zoo).score(vectors, "test", GROUPS).ensembles
    assert joint.metric.tolist()[1:3] == [0, 0] and joint.metric[0] > 0
    assert joint.outcomes["nll"].isinf().all(1).tolist() == [False, True, True, False]


@settings(max_examples=25, deadline=None)
@given(tens=st.integers(1, 6))
def test_few_outputs_wait_where_groups_are_nested(tens):
    groups = [tuple(range(i, 10 * tens, tens)) for i in range(tens)]
    groups += [tuple(range(i, 10 * tens, 2 * tens)) for i in range(2 * tens)]
    waiting, most, seen = Waiting(groups), 0, {}
    for network in order(groups, 10 * tens + 3):
        for index, members in waiting.add(network, network):
            seen[index] = members
            most = max(most, len(waiting.held))
    assert most == 10 and not waiting.held
    assert seen == {index: list(group) for index, group in enumerate(groups)}


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5).map(tuple), max_size=6))
def test_any_groups_get_their_members_and_nothing_stays(groups):
    waiting, seen = Waiting(groups), {}
    for network in order(groups, 7):
        seen |= dict(waiting.add(network, network))
    assert seen == {index: list(group) for index, group in enumerate(groups)}
    assert not waiting.held
    assert sorted(order(groups, 7)) == list(range(7))


# Joining


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), size=st.integers(1, 20), most=st.integers(1, 40))
def test_joined_batches_hold_the_same_items(n, size, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "MOST_ITEMS", most)
        found = list(joined(Items(torch.arange(n), torch.arange(n) * 2, size=size).batches()))
    assert torch.equal(torch.cat([batch[0] for batch in found]), torch.arange(n))
    assert torch.equal(torch.cat([batch[1] for batch in found]), torch.arange(n) * 2)
    assert all(len(batch[0]) <= max(size, most) for batch in found)
    assert len(found) <= max(1, -(-n // max(1, most - size + 1)))


def test_joined_batches_stay_small_in_memory(monkeypatch):
    monkeypatch.setattr(batching, "MOST_BYTES", 2000)
    found = list(joined(Items(torch.zeros(40, 25), size=5).batches()))
    assert [len(batch[0]) for batch in found] == [20, 20]


def test_items_of_different_shapes_or_without_rows_are_not_joined():
    batches = [{"x": torch.zeros(3, width)} for width in (1, 1, 2, 2, 2)]
    assert [tuple(batch["x"].shape) for batch in joined(batches)] == [(6, 1), (9, 2)]
    boxes = list(Boxes(torch.arange(8), size=2).batches())
    assert len(list(joined(boxes))) == 4
    assert list(joined([])) == []


# Error texts


def test_a_zoo_of_another_network():
    zoo, _ = make(Digits())
    other = Digits()
    other.model = lambda: nn.Linear(3, 2)
    with pytest.raises(
        TaskError, match=r"do not load into the model of task 'digits'.*collect the zoo with this task"
    ):
        Scorer(other, zoo)


def test_outcomes_that_are_no_value_per_item():
    task = Digits()
    zoo, vectors = make(task)
    task.predict = lambda outputs, batch: {"correct": outputs > 0}
    with pytest.raises(TaskError, match=r"outcomes of shapes .*'correct': \[50, 2\].*one value per item"):
        Scorer(task, zoo).score(vectors, "train")


def test_outcomes_of_too_few_items():
    task = Digits()
    zoo, vectors = make(task)
    task.predict = lambda outputs, batch: {"correct": outputs[:3, 0] > 0}
    with pytest.raises(TaskError, match="gives 3 outcomes over the whole data; expected 50, one per item"):
        Scorer(task, zoo).score(vectors, "train")


def test_metrics_without_the_task_s_own():
    task = Digits()
    zoo, vectors = make(task)
    task.metrics = lambda outcomes: {"f1": 0.5}
    with pytest.raises(TaskError, match="metrics of task 'digits' gives f1; expected accuracy"):
        Scorer(task, zoo).score(vectors, "train")


def test_data_without_a_batch():
    task = Digits()
    zoo, vectors = make(task)
    task.data.batches = lambda: iter(())
    with pytest.raises(
        TaskError, match="the data of task 'digits' gives no batch; expected at least one item"
    ):
        Scorer(task, zoo).score(vectors, "train")


def test_feedback_gives_gradients_of_the_training_loss():
    """Against a difference quotient through the plain network."""
    task = Digits(items=50, size=50)
    zoo, vectors = make(task)
    gradients = Scorer(task, zoo).feedback().gradients(vectors[:2], 0)
    batch = next(iter(task.train_data().shuffled(0)))

    def loss(v):
        network = task.model()
        network.load_state_dict(zoo.state_dict(v))
        return task.loss(network.eval()(batch[0]), batch)

    step = 1e-2 * torch.randn(zoo.dim, generator=torch.Generator().manual_seed(0))
    for v, gradient in zip(vectors, gradients):
        with torch.no_grad():
            change = (loss(v + step) - loss(v - step)) / 2
        assert torch.allclose(gradient @ step, change, rtol=2e-2, atol=1e-4)


def test_running_statistics_have_no_gradient():
    """Torch refuses to make one; all other tensors of a whole network have theirs."""
    task = Digits(items=50)
    zoo, vectors = make(task, "all")
    gradient = Scorer(task, zoo).feedback().gradients(vectors[:1], 0)[0]
    still = {name for name, part in zoo.spec.slices.items() if not gradient[part].any()}
    assert still == {name for name in zoo.spec.names if "running" in name}


def test_feedback_tells_mistakes_if_the_task_does():
    task = Digits(items=50)
    zoo, vectors = make(task)
    wrong = Scorer(task, zoo).feedback(40).mistakes(vectors)
    assert wrong.shape == (5, 40)
    assert torch.allclose(1 - wrong.double().mean(1), Scorer(task, zoo).feedback(40)(vectors))
    regression = Regression()
    with pytest.raises(TaskError, match="does not say which items"):
        Scorer(regression, make(regression)[0]).feedback().mistakes(vectors)


@pytest.mark.parametrize("held", [torch.float64, torch.float16])
def test_vectors_are_scored_in_the_types_of_the_network_whatever_the_checkpoints_had(held: torch.dtype):
    task = Digits()
    own = task.model().state_dict()
    state = {name: t.to(held) if t.is_floating_point() else t for name, t in own.items()}
    spec = ParameterSpec.from_state_dict(state)
    zoo = Zoo(torch.stack([spec.flatten(state), 1.1 * spec.flatten(state)]), spec, state)
    found = Scorer(task, zoo).score(zoo.vectors, "test").metrics["nll"]
    for v, nll in zip(zoo.vectors, found):
        network = task.model().eval()
        network.load_state_dict(zoo.state_dict(v))
        with torch.no_grad():
            (x, y), *_ = Items(*task.data.tensors, size=1000).batches()
            assert abs(float(cross_entropy(network(x), y)) - float(nll)) < (
                1e-5 if held == torch.float64 else 0.02
            )
