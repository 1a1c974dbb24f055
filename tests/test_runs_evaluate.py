"""Python's way in: generators on a zoo, a finished run as an object, and what the commands do as functions."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import paramdiff
from finished_runs import undrawn
from paramdiff import Average, FitContext, Gaussian, Generator, MatchedNoise, ParamdiffError, Run, Task, Zoo
from paramdiff.errors import ConfigError, GeneratorError, RunFolderError, TaskError
from paramdiff.files import read_json, save_tensors
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.tasks.batches import as_data

K, N = 6, 4


class Sign(Task):
    """Whether the first of three numbers is positive."""

    name = "sign"

    def model(self) -> nn.Module:
        return nn.Linear(3, 2)

    def _data(self, seed: int) -> Any:
        x = torch.randn(40, 3, generator=torch.Generator().manual_seed(seed))
        return as_data(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=20)

    def train_data(self) -> Any:
        return self._data(0)

    def test_data(self) -> Any:
        return self._data(1)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch[1])

    def predict(self, outputs: Any, batch: Any) -> Mapping[str, Tensor]:
        return {"correct": outputs.argmax(1) == batch[1]}

    def metrics(self, outcomes: Mapping[str, Tensor]) -> dict[str, float]:
        return {"accuracy": float(outcomes["correct"].double().mean())}


@paramdiff.register("halfway-of-the-tests")
@dataclass
class Halfway(Generator):
    """Between two members: a generator of a user's own."""

    def _fit(self, x: Tensor, context: FitContext) -> None:
        self.members = x

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Tensor:
        rows = torch.tensor(list(indices))
        return (self.members[rows % K] + self.members[(rows + 1) % K]) / 2

    def _state(self) -> dict[str, Any]:
        return {"members": self.members}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members = state["members"]


@dataclass
class Unnamed(Halfway):
    name: ClassVar[str] = ""


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    with undrawn():
        yield


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    spec = ParameterSpec.from_model(nn.Linear(3, 2), "all")
    g = torch.Generator().manual_seed(0)
    right = {"weight": torch.tensor([[-2.0, 0, 0], [2, 0, 0]]), "bias": torch.zeros(2)}
    vectors = torch.randn(K, spec.dim, generator=g) + spec.flatten(right)
    return Zoo(vectors, spec, spec.unflatten(vectors[0]))


@pytest.fixture(scope="module")
def found(zoo: Zoo) -> "paramdiff.Evaluation":
    return paramdiff.evaluate(Sign(), zoo, {"mine": Halfway(), "normal": Gaussian(), "mean": Average()}, n=N)


def test_rows_are_named_as_given_and_the_first_is_judged(found: "paramdiff.Evaluation", zoo: Zoo):
    assert list(found.rows) == ["original", "mine", "normal", "mean"] and found.name == "mine"
    assert [row["n"] for row in found.results["models"]] == [K, N, N, N]
    assert found.verdict["class"] in ("replica", "interpolation", "novel", "broken")
    assert found.samples.shape == (N, zoo.dim) and isinstance(found.generator, Halfway)
    assert torch.equal(found.samples, Halfway().fit(zoo).sample(N, 0))
    assert torch.equal(found.samples_of("normal"), Gaussian().fit(zoo).sample(N, 0))
    assert torch.equal(found.zoo.vectors, zoo.vectors) and "task" not in zoo.about
    Sign().model().load_state_dict(found.best)
    with pytest.raises(RunFolderError, match="no generator 'norml'; did you mean normal"):
        found.samples_of("norml")


def test_the_table_is_readable_wherever_it_is_shown(found: "paramdiff.Evaluation"):
    table = found.table()
    assert table == str(table) == repr(table) and "sign: test accuracy, K = 6" in table
    assert found.verdict["class"] in table and "normal" in table
    html = found._repr_html_()
    assert html.count("<tr") == 5 and '<tr style="font-weight: bold"><td>mine</td>' in html


def test_fitted_generators_are_used_as_they_are_and_nobodys_objects_change(zoo: Zoo):
    fitted, fresh = Gaussian(scale=0.1).fit(zoo[:3]), Gaussian()
    found = paramdiff.evaluate(Sign(), zoo, {"fitted": fitted, "fresh": fresh}, n=N)
    assert torch.equal(found.samples, fitted.sample(N, 0)) and fresh.normaliser is None


def test_the_folder_goes_with_the_object_unless_it_is_named(zoo: Zoo, tmp_path: Path):
    found = paramdiff.evaluate(Sign(), zoo, {"mean": Average()}, n=2)
    folder = found.folder
    assert folder.is_dir()
    del found
    gc.collect()
    assert not folder.exists()
    kept = paramdiff.evaluate(Sign(), zoo, {"mean": Average()}, n=2, folder=tmp_path / "kept")
    times = {path: path.stat().st_mtime_ns for path in kept.folder.rglob("*.safetensors")}
    paramdiff.evaluate(Sign(), zoo, {"mean": Average()}, n=2, folder=tmp_path / "kept")
    assert times == {path: path.stat().st_mtime_ns for path in kept.folder.rglob("*.safetensors")}
    with pytest.raises(RunFolderError, match="was made by another configuration"):
        paramdiff.evaluate(Sign(), zoo[1:], {"mean": Average()}, n=2, folder=tmp_path / "kept")


def test_save_writes_a_run_folder_and_replaces_nothing_else(found: "paramdiff.Evaluation", tmp_path: Path):
    out = found.save(tmp_path / "out")
    assert (out / "report.html").is_file() and Run.load(out).rows == found.rows
    assert found.save(out) == out, "a run folder is replaced"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    for folder in (tmp_path / "mine", tmp_path / "mine" / "thesis.tex"):
        with pytest.raises(
            RunFolderError, match="expected a new or empty folder, or a run folder to replace"
        ):
            found.save(folder)
    for name in ("thesis.tex", ".git"):
        (out / name).write_text("")
        with pytest.raises(RunFolderError, match=f"holds {name}, and saving would remove it"):
            found.save(out)
        (out / name).unlink()


@pytest.mark.parametrize(
    ("generators", "error", "message"),
    [
        ({}, ConfigError, "generators: there is none; expected at least one"),
        ({"a/b": Average()}, ConfigError, r"generators\['a/b'\]: not a name for a row"),
        ({"original": Average()}, ConfigError, "does not begin with original"),
        ({"a": MatchedNoise()}, ConfigError, "matches the samples of the main generator; .* put another one before"),
        ({"a": Unnamed()}, GeneratorError, r"generators\['a'\] is Unnamed\(\); .* with @paramdiff.register\("),
    ],
)  # fmt: skip
def test_generators_that_make_no_rows(zoo: Zoo, generators: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        paramdiff.evaluate(Sign(), zoo, generators)


def test_other_mistakes_are_one_line(zoo: Zoo):
    narrow = Gaussian().fit(Zoo(zoo.vectors[:, :3], ParameterSpec.from_state_dict({"v": torch.zeros(3)}), {}))
    with pytest.raises(
        GeneratorError, match="fitted to vectors of 3 parameters; expected D = 8 as in the zoo"
    ):
        paramdiff.evaluate(Sign(), zoo, {"a": narrow})
    with pytest.raises(ConfigError, match="^n: 0 is out of range"):
        paramdiff.evaluate(Sign(), zoo, {"a": Average()}, n=0)
    with pytest.raises(TaskError, match="there is no|cannot|not"):
        paramdiff.evaluate("nothing_like_it", zoo, {"a": Average()})
    with pytest.raises(ConfigError, match="^--cfg: not a setting; expected KEY=VALUE"):
        paramdiff.run("--cfg")


def test_networks_are_scored_as_members_vectors_or_state_dicts(zoo: Zoo):
    members = paramdiff.score(Sign(), zoo)
    vectors = paramdiff.score(Sign(), zoo.vectors, zoo)
    states = paramdiff.score(Sign(), [zoo.state_dict(v) for v in zoo.vectors])
    one = paramdiff.score(Sign(), zoo.state_dict(zoo.vectors[2]))
    assert members.test.shape == (K,) and 0.5 < float(members.test.mean()) <= 1
    assert torch.equal(members.test, vectors.test) and torch.equal(members.train, states.train)
    assert torch.equal(states.test, members.test) and torch.equal(one.test, members.test[2:3])
    with pytest.raises(TaskError, match="vectors without their zoo; .* pass zoo="):
        paramdiff.score(Sign(), zoo.vectors)
    with pytest.raises(TaskError, match="state dict 1 lacks bias"):
        paramdiff.score(Sign(), [zoo.state_dict(zoo.vectors[0]), {"weight": torch.zeros(2, 3)}])


def test_a_zoo_is_collected_and_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    collector = paramdiff.TrajectoryCollector(k=3, select="all", pretrain=paramdiff.TrainingConfig(epochs=1))
    kept = paramdiff.collect(Sign(), collector, tmp_path / "r")
    assert kept.k == 3 and torch.equal(paramdiff.collect(Sign(), collector).vectors, kept.vectors)
    time = (tmp_path / "r/zoo/vectors.safetensors").stat().st_mtime_ns
    paramdiff.collect(Sign(), collector, tmp_path / "r")
    assert (tmp_path / "r/zoo/vectors.safetensors").stat().st_mtime_ns == time
    facts = paramdiff.inspect(tmp_path / "r", Sign())
    assert (facts.k, facts.network, facts.basin is None) == (3, "Linear", False) and facts.recommendations
    assert paramdiff.inspect(kept).k == 3
    for index, vector in enumerate(kept.vectors):
        save_tensors(tmp_path / "files" / f"{index}.safetensors", kept.state_dict(vector))
    assert paramdiff.inspect(tmp_path / "files", select="weight").dim == 6
    assert capsys.readouterr().out == ""


def test_the_page_is_drawn_again(found: "paramdiff.Evaluation", tmp_path: Path):
    assert "Sign" not in str(found.report) and found.report.name == "report.html"
    with pytest.raises(ParamdiffError, match="results.json does not exist"):
        paramdiff.report(tmp_path)
    with pytest.raises(RunFolderError, match="results.json does not exist"):
        Run.load(tmp_path)
    assert read_json(found.folder / "results.json") == found.results
