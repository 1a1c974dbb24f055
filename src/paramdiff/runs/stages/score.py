"""Score: the outcomes of networks on the task's data, and the best sample as a complete state dict."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from paramdiff.distributed import on_main_process
from paramdiff.evaluation.comparison import Scored
from paramdiff.evaluation.ensembles import all_groups
from paramdiff.evaluation.statistics import select_on_train
from paramdiff.evaluation.summary import arrays
from paramdiff.files import save_tensors
from paramdiff.progress import say
from paramdiff.runs.context import RunContext
from paramdiff.runs.manifest import Stage
from paramdiff.runs.rows import GeneratorRow
from paramdiff.scoring.scorer import Scorer

BEST = "samples/best.safetensors"

BEFORE = "test_before"
"""Test scores of samples before recalibration, among a generator's scores."""


def score(run: RunContext, row: GeneratorRow, group: str = "score") -> Stage:
    """The scores of a row's samples."""

    def work(scratch: Path) -> None:
        vectors = run.vectors(row)
        say(f"  scoring {row.name}")
        scored, before = measure(run.scorer, vectors), _before(run, row)
        keep_scores(run, row.scores, scored, lambda: arrays(run.originals.compare(vectors, scored)) | before)

    needs = ["zoo", *run.drawn_files(row), *run.reference_files]
    return Stage(f"{group}:{row.name}", run.settings["task"], needs, [row.scores], work, shared=True)


def best(run: RunContext) -> Stage:
    """The sample that is best on the training set, as a complete state dict."""

    def work(scratch: Path) -> None:
        scored = run.scored(run.main.scores)
        index = select_on_train(scored.train, scored.train_nll, run.task.higher_is_better)
        state = run.zoo.state_dict(run.vectors(run.main)[index])
        what = "a complete state dict: the sample that is best on the training set"
        save_tensors(run.path(BEST), state, run.header(what, run.main.name, 1, sample=index))

    return Stage("score:best", [], ["zoo", run.main.scores, run.main.samples], [BEST], work)


def measure(scorer: Scorer, vectors: Tensor) -> Scored:
    """Scores of networks that share the zoo's frozen rest, on training and test data."""
    train = scorer.score(vectors, "train")
    return Scored.of(train, scorer.score(vectors, "test", all_groups(len(vectors))))


def keep_scores(run: RunContext, file: str, scored: Scored, seen: Callable[[], dict[str, Tensor]]) -> None:
    """The scores on disk, with what a comparison with the originals shows."""
    path = run.path(file)
    header = run.header("scores: one value or row a network", path.stem, len(scored.test))
    on_main_process(lambda: save_tensors(path, scored.tensors() | seen(), header))


def _before(run: RunContext, row: GeneratorRow) -> dict[str, Tensor]:
    """Test scores of the samples as they were drawn, if they were recalibrated."""
    if not run.recalibrating:
        return {}
    say(f"  scoring {row.name} before recalibration")
    return {BEFORE: run.scorer.score(run.as_drawn(row), "test").metric}
