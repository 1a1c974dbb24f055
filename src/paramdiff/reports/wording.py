"""The sentences of the page: what came out, in plain words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paramdiff.evaluation.evidence import WORKING
from paramdiff.evaluation.verdict import GAP
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import NONE, Metric, fraction, networks, number, percent


def headline(run: FinishedRun) -> str:
    """The result in one sentence."""
    metric, new, old = Metric.of(run), run.main, run.originals
    score, reference = metric(new.test["mean"]), metric(old.test["mean"])
    samples, originals = networks(new.n, "sampled network"), f"the {networks(old.n, 'original')}"
    if score == NONE:
        return f"{samples}: no mean {metric.name} is known."
    if broken(run):
        what = "This sampled network does" if new.n == 1 else f"These {samples} do"
        chance = f"where chance is {metric(metric.chance)} and {originals} reach {reference}"
        return f"{what} not work: {metric.name} {score}, {chance}."
    if metric.percent:
        verb, average = ("scores", "") if new.n == 1 else ("score", " on average")
        return f"{samples} {verb} {score}{average}, {originals} {reference}."
    verb = "reaches" if new.n == 1 else "average"
    direction = "" if metric.higher else " (lower is better)"
    return f"{samples} {verb} {score} in {metric.name}, {originals} {reference}{direction}."


def broken(run: FinishedRun) -> bool:
    """Whether the samples do not work, as the verdict has it: half the lead over chance is lost."""
    metric, new, old = Metric.of(run), run.main.test["mean"], run.originals.test["mean"]
    if metric.chance is None or new is None or old is None or not metric.better(old, metric.chance):
        return False
    return (new - metric.chance) / (old - metric.chance) < WORKING


def shares(run: FinishedRun) -> str:
    """Share of samples in each class of the verdict; empty where all are in one, or an older run does not say."""
    known = run.part("verdict", "shares")["shares"]
    told = known.items() if isinstance(known, dict) else ()
    some = [(name, share) for name, share in told if isinstance(share, int | float) and 0 < share < 1]
    return f"Samples: {', '.join(f'{percent(share)} {name}' for name, share in some)}." if some else ""


@dataclass(frozen=True)
class Card:
    """A number worth knowing before the table, and what it says."""

    title: str
    number: str
    text: str


def cards(run: FinishedRun) -> list[Card]:
    """The chosen sample, the strongest baseline, how alike samples are; only those that are known."""
    return [card for card in (_selected(run), _baseline(run), _alike(run)) if card]


def _selected(run: FinishedRun) -> Card | None:
    metric, chosen = Metric.of(run), run.main.selected
    if chosen["test"] is None:
        return None
    text = f"Test {metric.name} of the sample chosen on the training set"
    text += f" out of {number(run.main.n)}" if run.main.n > 1 else ""
    text += f"; {interval(metric, chosen['test_ci95'])}" if chosen["test_ci95"] else ""
    return Card(
        "The chosen sample",
        metric(chosen["test"]),
        f"{text}. {_against_original(metric, chosen['vs_original'])}".strip(),
    )


def _against_original(metric: Metric, comparison: dict[str, Any] | None) -> str:
    if not comparison or comparison.get("difference") is None:
        return ""
    difference, bounds = comparison["difference"], comparison.get("ci95")
    text = f"Against the original chosen the same way: {metric.signed(difference)}{metric.points}"
    if not bounds or None in bounds:
        return f"{text}."
    return f"{text} ({interval(metric, bounds, signed=True)}), {outcome(metric, bounds)}."


def outcome(metric: Metric, bounds: list[float]) -> str:
    """What the interval of a difference says."""
    if bounds[0] <= 0 <= bounds[1]:
        return "no clear difference"
    return f"clearly {'better' if metric.better(bounds[0], 0) else 'worse'}"


def interval(metric: Metric, bounds: list[float], signed: bool = False) -> str:
    write = metric.signed if signed else metric
    return f"95% interval {write(bounds[0])} to {write(bounds[1])}"


def _baseline(run: FinishedRun) -> Card | None:
    """Where the generator stands among those it was compared with, by their mean."""
    metric, mine = Metric.of(run), run.main.test["mean"]
    known = [row for row in run.baselines if row.test["mean"] is not None]
    if not known or mine is None:
        return None
    best = max(known, key=lambda row: row.test["mean"] * (1 if metric.higher else -1))
    score = metric(best.test["mean"])
    comparison = "above" if best.test["mean"] > mine else "below"
    than = (
        f"the same as {run.main.label}"
        if score == metric(mine)
        else f"{comparison} {run.main.label}, {metric(mine)}"
    )
    among = (
        f"the best mean of the {len(known)} generators compared"
        if len(known) > 1
        else "the one generator compared"
    )
    return Card("The strongest baseline", score, f"{best.label}, {among}: {than}.")


def _alike(run: FinishedRun) -> Card | None:
    new, old = run.main.similarity["within"], run.originals.similarity["within"]
    if new is None or old is None:
        return None
    text = f"Error similarity among samples, {fraction(old)} among originals"
    if abs(new - old) < 0.02:
        return Card("Variety", fraction(new), f"{text}: they differ from one another about as much.")
    return Card("Variety", fraction(new), f"{text}: the samples are {'more' if new > old else 'less'} alike.")


def reconstruction_check(run: FinishedRun) -> dict[str, Any] | None:
    """What the check found; None if the run had none."""
    known = run.results.get("reconstruction_check")
    return run.part("reconstruction_check", "passed", "void", "why") if known else None


def reconstruction_sentence(run: FinishedRun) -> str:
    """The reconstruction check in plain words: can the generator rebuild checkpoints it has not seen?"""
    metric, check = Metric.of(run), run.part("reconstruction_check")
    before, after, loss = check.get("members"), check.get("reconstructed"), check.get("loss")
    held = check.get("held_out")
    text = f"{networks(held, 'checkpoint') if held else 'Checkpoints'} kept out of the fit"
    if before is not None and after is not None:
        text += f": mean {metric.name} {metric(before)}"
        text += f", and {metric(after)} after being rebuilt from their latents"
    if loss is not None and check.get("tolerance") is not None:
        lost = f"{metric.plain(loss)}{metric.points} lost" if loss > 0 else "nothing lost"
        text += f" ({lost}, {metric.plain(check['tolerance'])} tolerated)"
    if check.get("explained_variance") is not None:
        text += f"; {100 * check['explained_variance']:.0f}% of their variance is explained"
    return f"{text}."


def denoising_sentence(run: FinishedRun) -> str:
    """Whether the denoiser has memorised its members; empty if there is none, or nothing was kept out of its fit."""
    gap = run.part("denoising", "gap")["gap"]
    if gap is None:
        return ""
    times = f"{gap:.2g} times that on those it was fitted to"
    text = f"On originals kept out of the fit, the loss of the denoiser is {times}"
    if gap >= GAP:
        return f"{text}: it has memorised these."
    if run.part("zoo").get("trajectory"):
        return f"{text}, which says little here: their neighbours in time, nearly the same networks, were in the fit."
    return f"{text}: it has not memorised single originals."


def training(about: Any) -> str | None:
    """How long originals were trained: ``8 epochs of 41 updates, 328 in all``; None if that is not known."""
    counts = [
        about.get(key) if isinstance(about, Mapping) else None
        for key in ("epochs", "updates_per_epoch", "updates")
    ]
    if not all(isinstance(count, int) for count in counts):
        return None
    epochs, each, updates = (number(count) for count in counts)
    return f"{epochs} epoch{'' if epochs == '1' else 's'} of {each} updates, {updates} in all"


def sentence(text: str | None) -> str:
    """A text from ``results.json`` with a capital and a full stop."""
    text = (text or "").strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")


def setting(run: FinishedRun) -> str:
    """The end of every caption: K, N, D and the seed."""
    zoo = run.part("zoo")
    seed = "" if zoo.get("seed") is None else f", seed {zoo['seed']}"
    text = f"K = {number(zoo.get('k'))}, N = {number(run.main.n)}, D = {number(zoo.get('dim'))}"
    return text.replace(" = ", "\u00a0=\u00a0") + f"{seed}."
