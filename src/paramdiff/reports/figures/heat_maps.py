"""Heat maps of a few tensors over networks: do samples keep the patterns? (The paper's Figure 5.)"""

import torch

from paramdiff.devices import evenly_spaced
from paramdiff.reports.figures.shown_parameters import (
    beginning,
    colour_bar,
    heat_map,
    kinds_of,
    member_name,
    scaled,
    values,
)
from paramdiff.reports.finished_run import FinishedRun, Row
from paramdiff.reports.plotting import PAPER, Plot, canvas, shortened
from paramdiff.reports.wording import setting
from paramdiff.zoo.zoo import Zoo

NETWORKS, TENSORS, COLUMNS = 3, 3, 128


def draw_patterns(run: FinishedRun) -> Plot:
    """A few tensors of a few originals and samples as stripes, each tensor from least to greatest."""
    title, zoo, samples = "Do samples keep the patterns?", run.zoo, run.samples(run.main)
    if zoo is None or samples is None:
        return Plot("patterns", title, "Parameters were not kept, so there are no heat maps of them.")
    members, drawn = evenly_spaced(zoo.k, NETWORKS).tolist(), chosen_first(run.main, len(samples))
    names = [tensors[-1] for tensors in list(kinds_of(zoo).values())[:TENSORS]]
    height = 17 * (len(members) + len(drawn))
    figure, axes = canvas(45 + (height + 46) * len(names), len(names))
    labels = [member_name(zoo, i) for i in members] + [f"sample {i}" for i in drawn]
    for axis, name in zip(axes[:, 0], names):
        columns = beginning(zoo, name, COLUMNS)
        both = torch.cat([values(zoo.vectors, members, columns), values(samples, drawn, columns)])
        image = heat_map(axis, scaled(both), labels)
        axis.axhline(len(members) - 0.5, color=PAPER, linewidth=3)
        axis.set_title(_tensor_title(zoo, name))
        axis.set_xlabel("parameter")
    colour_bar(figure, image, axes[:, 0])
    caption = (
        f"The last tensor of each kind, at most its first {COLUMNS} parameters, in {len(members)} originals (above)"
        f" and {len(drawn)} samples of {run.main.label} (below, the chosen one first). Vertical stripes: what"
        f" networks have in common. {setting(run)}"
    )
    return Plot("patterns", title, caption, figure, paper="5")


def chosen_first(row: Row, n: int) -> list[int]:
    """A few samples: the one chosen on the training set, then the first ones."""
    return sorted(range(n), key=lambda i: i != row.selected["index"])[:NETWORKS]


def _tensor_title(zoo: Zoo, name: str) -> str:
    shape = next(tensor.shape for tensor in zoo.spec.tensors if tensor.name == name)
    return f"{shortened(name, 30)} [{' × '.join(map(str, shape))}]"
