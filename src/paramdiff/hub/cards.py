"""Cards: the ``README.md`` of a repository on the Hub, for people, with metadata for its search and leaderboards.

A card says what is known and nothing else: without results it says that there are none, and a licence stands in it only
if one was given. Scores are in the units of the task's metric, as in ``results.json``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paramdiff.errors import line

ORIGINAL = "original"
"""Name of the members' row in ``results.json``."""

SPREAD = ("best", "mean", "median", "worst")

NO_RESULTS = "Nobody has recorded results of this generator: how well its samples work is not known."

USE_GENERATOR = """\
```python
from paramdiff import Generator

generator = Generator.from_pretrained("{place}")
for state in generator.sample_state_dicts({n}, seed=0{more}):
    model.load_state_dict(state)  # the network that these tensors are of
```
"""

USE_ZOO = """\
```python
from paramdiff import ParameterDiffusion, Zoo

zoo = Zoo.from_pretrained("{place}")
generator = ParameterDiffusion().fit(zoo)
model.load_state_dict(zoo.state_dict(zoo.vectors[0]))  # the first member
```
"""

Results = Mapping[str, Any]


@dataclass(frozen=True)
class CardOptions:
    """What only the author can say.

    Attributes:
        place: a folder or an id, for the example.
        license: as the Hub writes it, e.g. ``apache-2.0``.
        tags: for the Hub's search, beside those of this library.
    """

    place: str
    license: str | None = None
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class GeneratorInfo:
    """What a card says of a generator without results.

    Attributes:
        name: under which its class is registered.
        label: with the setting that matters.
        dim: D, parameters that are generated.
        tensors: names of the tensors that are generated.
        size: parameters of the whole network, buffers included.
        asks: whether sampling needs a task.
        row: its row in results, where its name or label does not say it.
    """

    name: str
    label: str
    dim: int
    tensors: Sequence[str]
    size: int
    asks: bool = False
    row: str | None = None


@dataclass(frozen=True)
class ZooInfo:
    """What a card says of a zoo.

    Attributes:
        k, dim: K members of D parameters.
        tensors: names of the tensors that are generated.
        select: the selection, as the user wrote it.
        size: parameters of the whole network, buffers included.
        origin: where it came from, as (what, in words).
        scores: recorded scores of the members, by name.
    """

    k: int
    dim: int
    tensors: Sequence[str]
    select: str
    size: int
    origin: Sequence[tuple[str, str]] = ()
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)


def generator_card(facts: GeneratorInfo, options: CardOptions, results: Results | None = None) -> str:
    """The model card of a generator.

    Args:
        facts: about the generator.
        options: of its author.
        results: the dictionary of ``results.json``.
    """
    from huggingface_hub import ModelCardData

    title = line(options.place)
    rows = _evaluation(facts, results) if results else []
    data = ModelCardData(
        library_name="paramdiff", license=options.license, model_name=title, eval_results=rows or None,
        tags=["paramdiff", "weight-space-learning", "neural-network-parameters", facts.name, *options.tags],
    )  # fmt: skip
    if not rows:
        data.pop("model_name")
    more = ", context=FitContext(feedback=...)" if facts.asks else ""
    parts = [
        f"# {title}",
        f"A generator of trained network parameters ({facts.label}): it samples new networks of one architecture.",
        f"It draws {facts.dim:,} parameters ({_listed(facts.tensors)}) and joins them with the frozen rest of the "
        f"network, {facts.size:,} numbers in all. A sample is a complete state dict; no original is needed.",
        "## Use", USE_GENERATOR.format(place=title, n=10, more=more),
        "## Results", *(_results(facts, results) if results else [NO_RESULTS]),
    ]  # fmt: skip
    return _card(data, parts)


def zoo_card(facts: ZooInfo, options: CardOptions) -> str:
    """The card of a zoo, as a data set."""
    from huggingface_hub import DatasetCardData

    title = line(options.place)
    tags = ["paramdiff", "weight-space-learning", "model-zoo", "neural-network-parameters", *options.tags]
    data = DatasetCardData(
        license=options.license, pretty_name=title, tags=tags, size_categories=_category(facts.k)
    )
    scores = [
        [line(name), str(len(values)), *(_number(f(values)) for f in (max, _mean, min))]
        for name, values in facts.scores.items()
        if values
    ]
    parts = [
        f"# {title}",
        f"A zoo: K = {facts.k:,} trained checkpoints of one network, D = {facts.dim:,} parameters of each "
        f"(selection `{line(facts.select)}`: {_listed(facts.tensors)}). The network has {facts.size:,} numbers in all; "
        "those outside the selection are the same for every member and stored once.",
        "\n".join(f"* {what}: {line(text)}" for what, text in facts.origin),
        "## Use", USE_ZOO.format(place=title),
        "## Recorded scores of the members",
        _table(["score", "members", "highest", "mean", "lowest"], scores) if scores else "None are recorded.",
    ]  # fmt: skip
    return _card(data, parts)


def placed(card: str, place: str) -> str:
    """The card of a folder that has moved: its example loads from ``place``."""
    return re.sub(r'from_pretrained\("[^"\n]*"\)', lambda _: f'from_pretrained("{place}")', card)


def _card(data: Any, parts: Sequence[str]) -> str:
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _results(facts: GeneratorInfo, results: Results) -> Iterator[str]:
    """Paragraphs: verdict, setting, table."""
    own, main, zoo, task = (
        _row_name(facts, results),
        _main(results),
        _part(results, "zoo"),
        _part(results, "task"),
    )
    if own == main:
        verdict = _part(results, "verdict")
        why = line(str(verdict.get("why") or "")) or "Nobody recorded why."
        yield f"**Verdict: {line(str(verdict.get('class') or 'none'))}.** {why}"
    else:
        yield f"The verdict of these results is about {line(str(main))}, not about this generator, the row {line(own)}."
    metric, better = line(str(task.get("metric") or "score")), task.get("higher_is_better", True)
    yield (
        f"Task {line(str(task.get('name') or 'unknown'))}; a zoo of K = {zoo.get('k')} networks; test {metric} "
        f"({'higher' if better else 'lower'} is better) of all networks that were drawn. *Selected* is the one that is "
        "best on the training data, among that many. *IoU* is the mean overlap of wrong test items, within a row's "
        "networks and with the members."
    )
    header = ["model", "networks", *SPREAD, "selected", "IoU within", "IoU with members"]
    yield _table(header, [_line(model) for model in _models(results)])
    if results.get("command"):
        yield f"Made with `{_command(str(results['command']))}`."


def _command(command: str) -> str:
    """What was typed, without the folder of the run and with the last names of other paths of that machine."""
    words = [word for word in line(command).split(" ") if not word.startswith("run_dir=")]
    return re.sub(r"(^|=|,|\s)[/~]\S*/", r"\1", " ".join(words))


def _line(model: Mapping[str, Any]) -> list[str]:
    test, selected, similarity = (_part(model, key) for key in ("test", "selected", "similarity"))
    numbers = [*(test.get(key) for key in SPREAD), selected.get("test")]
    numbers += [similarity.get("within"), similarity.get("to_zoo_mean")]
    return [
        line(str(model.get("label") or model.get("name"))),
        str(model.get("n") or ""),
        *map(_number, numbers),
    ]


def _evaluation(facts: GeneratorInfo, results: Results) -> list[Any]:
    """The generator's row, its verdict and the members' mean as evaluation results of the Hub."""
    from huggingface_hub import EvalResult

    task = _part(results, "task")
    metric, data = str(task.get("metric") or "score"), str(task.get("name") or "unknown")
    return [
        EvalResult(task_type="other", task_name="new networks", dataset_type=data, dataset_name=data,
                   dataset_split="test", metric_type=kind, metric_name=name,
            metric_value=round(value, 6) if isinstance(value, float) else value)
        for kind, name, value in _metrics(_row_name(facts, results), metric, results)
        if value is not None
    ]  # fmt: skip


def _metrics(row: str, metric: str, results: Results) -> Iterator[tuple[str, str, Any]]:
    """(type, name, value) of everything that the metadata holds."""
    rows = {model.get("name"): model for model in _models(results)}
    own, members = rows.get(row, {}), rows.get(ORIGINAL, {})
    test, similarity, n = _part(own, "test"), _part(own, "similarity"), own.get("n")
    for key in SPREAD:
        yield metric, f"test {metric}, {key} of {n} samples", test.get(key)
    selected = _part(own, "selected").get("test")
    yield metric, f"test {metric} of the sample selected on the training data among {n}", selected
    yield metric, f"test {metric}, mean of {members.get('n')} members", _part(members, "test").get("mean")
    yield "error-iou", "error IoU within the samples", similarity.get("within")
    yield "error-iou", "error IoU of samples with members", similarity.get("to_zoo_mean")
    if row == _main(results):
        yield "verdict", "verdict", _part(results, "verdict").get("class")


def _models(results: Results) -> list[Mapping[str, Any]]:
    return [model for model in results.get("models") or [] if isinstance(model, Mapping)]


def _main(results: Results) -> Any:
    """The row that the verdict is about."""
    return results.get("generator") or "p-diff"


def _row_name(facts: GeneratorInfo, results: Results) -> str:
    """The row of this generator: the one its author names, that of its label or name, or the main one."""
    names = {model.get("name") for model in _models(results)}
    own = [name for name in (facts.label, facts.name) if name in names]
    return str(facts.row or (own[0] if own else _main(results)))


def _part(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = value.get(key)
    return part if isinstance(part, Mapping) else {}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(f'`{line(name)}`' for name in names[:most])}{more}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _category(k: int) -> str:
    """K in the Hub's classes of sizes."""
    for most, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K")):
        if k < most:
            return name
    return "100K<n<1M"
