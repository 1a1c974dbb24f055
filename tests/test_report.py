"""The report: what the page says, that it stands alone, and that gaps in a run folder do not break it."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finished_runs import NULLS, failed, model, read, regression, results, spread, text_of, undrawn, write_run
from paramdiff.errors import ParamdiffError, RunFolderError
from paramdiff.files import save_tensors, write_json, write_text
from paramdiff.reports import formatting, page, wording
from paramdiff.reports.figures.losses import BLOCKS, blocks
from paramdiff.reports.figures.score_histograms import bin_edges
from paramdiff.reports.figures.similarity_scatter import row_looks, zoom
from paramdiff.reports.finished_run import FinishedRun, LossCurve, read_curves
from paramdiff.reports.formatting import Metric
from paramdiff.reports.page import render
from paramdiff.reports.plotting import Plot, canvas, inline, save, style


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("runs") / "digits", results())
    render(folder)
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def without_figures() -> Iterator[None]:
    """For what the page says in words."""
    with undrawn():
        yield


def drawn(folder: Path) -> set[str]:
    """Names of the figures of a run."""
    return {file.stem for file in (folder / "figures").glob("*.svg")}


# What the page says ----------------------------------------------------------------------------------


def test_page_says_what_came_out(html: str) -> None:
    text = text_of(html)
    assert "<h1>100 sampled networks score 97.9% on average, the 200 originals 97.6%.</h1>" in html
    assert "Interpolation The samples gather at the centre of the zoo." in text
    assert (
        "Reconstruction check passed. 20 checkpoints kept out of the fit: mean accuracy 97.6%, and 97.5% after"
        in text
    )
    assert "(0.1 points lost, 1.0 tolerated); 93% of their variance is explained." in text
    assert "95% interval 96.9% to 99.4%. Against the original chosen the same way: +0.3 points" in text
    assert "average of all, the best mean of the 2 generators compared: above p-diff, 97.9%." in text
    assert "The whole model was scored." in text


def test_page_says_what_was_run(html: str) -> None:
    text = text_of(html)
    for fact in ("K = 200 trained networks", "D = 2,048 parameters", "last_norms:2", "Seed 7", "sample 0.0 s",
                 "N = 100 per generator", "1,437 train · 360 test", "A CPU · 2 cores · cpu",
                 "fit 1 min 31 s"):  # fmt: skip
        assert fact in text
    assert "<code>paramdiff run experiment=digits</code>" in html
    assert "zoo:\n  k: 200" in html


def test_table_has_every_row_with_its_numbers(html: str) -> None:
    table = re.search(r'<table class="scores">.*?</table>', html, re.DOTALL)
    assert table is not None
    rows = [text_of(f"<body{row}") for row in table[0].split("<tr class=")[1:]]
    names = [
        "original 200 networks",
        "average of all 1 network",
        "gaussian 100 networks",
        "p-diff 100 networks",
    ]
    assert [name in row for name, row in zip(names, rows, strict=True)] == [True] * 4
    assert "98.9 of 100 97.9 97.9 96.9 98.3 96.9–99.4 +0.3 −0.4 to +1.1 0.898 0.700 0.810" in rows[3]
    assert 'class="original"' in table[0]
    assert table[0].count('class="main"') == 1


def test_captions_carry_the_setting(html: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(captions) >= 3
    for caption in captions:
        assert caption.replace("\u00a0", " ").endswith("K = 200, N = 100, D = 2,048, seed 7.")


def with_ensembles() -> dict[str, Any]:
    """Originals, and p-diff whose ensembles of ten are better, of five not clearly."""
    nll = {"original": {1: 1.45, 5: 1.34, 10: 1.312}, "p-diff": {1: 1.36, 5: 1.335, 10: 1.3071}}
    bounds = {1: [-0.1, -0.08], 5: [-0.011, 0.001], 10: [-0.008, -0.0019]}

    def entry(name: str, m: int) -> dict[str, Any]:
        versus = {"difference": nll[name][m] - nll["original"][m], "ci95": bounds[m]}
        return {
            "m": m, "groups": 100 // m, "accuracy": 0.64 + m / 1000, "nll": nll[name][m], "ece": 0.05 - m / 1000,
            "disagreement": None if m == 1 else 0.123,
            "vs_original": None if name == "original" else {"nll": versus, "accuracy": versus},
        }  # fmt: skip

    rows = [model(name, 0.64, ensembles=[entry(name, m) for m in (1, 5, 10)]) for name in nll]
    return results(*rows, model("gaussian", 0.63))


@pytest.mark.usefixtures("without_figures")
def test_networks_together_have_their_table(tmp_path: Path) -> None:
    html = render(write_run(tmp_path / "run", with_ensembles())).read_text(encoding="utf-8")
    text = text_of(html)
    assert (
        "10 samples of p-diff with their predictions averaged reach an NLL of 1.307, one alone 1.360; 10 originals "
        "reach 1.312 (−0.005, 95% interval −0.008 to −0.002): clearly better." in text
    )
    ten, five = re.findall(r'aria-label="Ensembles of \d+">.*?</table>', html, re.DOTALL)
    ten = text_of(f"<body><{ten}")
    assert (
        "p-diff 10 ensembles 65.0 alone 64.1 1.307 alone 1.360 −0.005 −0.008 to −0.002 4.0 alone 4.9 12.3"
        in ten
    )
    assert "original 10 ensembles 65.0 alone 64.1 1.312 alone 1.450 – 4.0 alone 4.9 12.3" in ten
    assert "gaussian" not in ten, "a row without ensembles is left out"
    assert "p-diff 20 ensembles" in text_of(f"<body><{five}")
    assert html.index("Ensembles of 10") < html.index("Ensembles of 5")
    assert all(
        term in html
        for term in ("<dt>Ensemble</dt>", "<dt>NLL</dt>", "<dt>ECE</dt>", "<dt>Disagreement</dt>")
    )


@pytest.mark.usefixtures("without_figures")
def test_ensembles_of_unknown_worth_say_nothing(tmp_path: Path) -> None:
    found = with_ensembles()
    for entry in found["models"][1]["ensembles"]:
        entry |= {"nll": None, "vs_original": {"nll": {"difference": None, "ci95": None}}}
    text = text_of(render(write_run(tmp_path / "run", found)).read_text(encoding="utf-8"))
    assert "predictions averaged" not in text
    assert "p-diff 10 ensembles 65.0 alone 64.1 – – 4.0 alone 4.9 12.3" in text


def test_without_ensembles_the_page_does_not_mention_them(html: str) -> None:
    assert "ensemble" not in text_of(html).lower()


def recalibrated() -> dict[str, Any]:
    """The originals, p-diff which was at chance before, and an average that was broken."""
    blocks = {"p-diff": spread(0.1234), "average": NULLS}
    rows = [
        model(name, 0.97, recalibration={"items": 2000, "before": before}) for name, before in blocks.items()
    ]
    return results(model("original", 0.976, 200), *rows)


@pytest.mark.usefixtures("without_figures")
def test_recalibrated_samples_stand_beside_what_they_were(tmp_path: Path) -> None:
    html = render(write_run(tmp_path / "run", recalibrated())).read_text(encoding="utf-8")
    text = text_of(html)
    table = re.search(r'<table class="scores">.*?</table>', html, re.DOTALL)
    assert table is not None and '<th colspan="5" scope="colgroup">Test accuracy (%)</th>' in table[0]
    original, new, average = [text_of(f"<body{row}") for row in table[0].split("<tr class=")[1:]]
    assert "median worst mean before recalibration test, 95%" in text
    assert "98.0 of 100 97.0 97.0 96.0 12.3 97.4" in new
    assert "97.0 97.0 96.0 – 97.4" in average and "97.6 97.6 96.6 – 98.0" in original
    assert "Recalibrated on 2,000 training items" in text
    assert (
        "numbers are those of recalibrated samples, and all comparisons are with recalibrated originals"
        in text
    )
    assert "<dt>Recalibration</dt>" in html and "on 2,000 training items without their labels" in text


def test_samples_are_compared_with_the_originals_that_the_results_name(tmp_path: Path) -> None:
    rows = [model("original", 0.5, 200), model("original-recalibrated", 0.976, 200)]
    rows += [model("original-as-saved", 0.9, 200), model("p-diff", 0.979)]
    run = read(tmp_path, results(*rows, reference="original-recalibrated"))
    assert "score 97.9% on average, the 200 originals 97.6%" in wording.headline(run)
    assert [row.name for row in run.compared] == ["original-recalibrated", "p-diff"] and run.baselines == []
    assert [page.cells(row, run)["role"] for row in run.rows] == ["original"] * 3 + ["main"]


def test_without_recalibration_the_page_does_not_mention_it(html: str) -> None:
    assert "recalibrat" not in text_of(html).lower()


def test_loading_a_sample_takes_three_lines(html: str) -> None:
    code = re.search(r"<pre><code>(from safetensors.*?)</code>", html, re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) == 3
    assert "samples/best.safetensors" in code[1]


# That it stands alone --------------------------------------------------------------------------------


def test_page_asks_for_nothing_from_outside(html: str) -> None:
    addresses = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", html) + re.findall(
        r"url\(([^)]*)\)", html
    )
    assert addresses
    assert [a for a in addresses if not a.startswith(("#", "data:"))] == []
    assert "<script" not in html
    assert "@import" not in html
    assert "<link" not in html


def test_drawings_do_not_share_ids(html: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
    assert used
    assert used <= set(ids)


class Balance(HTMLParser):
    """Fails where a tag closes another than the last one opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        """Opens nothing."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_tags_are_balanced(html: str) -> None:
    parser = Balance()
    parser.feed(html)
    assert parser.open == []


def test_figures_are_files_too(folder: Path) -> None:
    for name in ("scores", "similarity", "losses"):
        root = ElementTree.fromstring((folder / "figures" / f"{name}.svg").read_text(encoding="utf-8"))
        assert root.attrib["viewBox"].startswith("0 0 440 ")
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_same_folder_gives_same_bytes(folder: Path) -> None:
    files = [folder / "report.html", *sorted((folder / "figures").iterdir())]
    before = [file.read_bytes() for file in files]
    render(folder)
    assert [file.read_bytes() for file in files] == before


# Gaps ------------------------------------------------------------------------------------------------


def test_task_without_mistakes(tmp_path: Path) -> None:
    html = render(write_run(tmp_path / "run", regression())).read_text(encoding="utf-8")
    text = text_of(html)
    assert "50 sampled networks average 0.01260 in mean squared error, the 50 originals 0.01310" in text
    assert "(lower is better)." in text
    assert "No verdict on novelty. No mistakes to compare." in text
    assert "This task has no sets of mistakes, so error similarity is left out." in text
    assert "so there is no figure of similarity to the originals" in text
    assert 'colgroup">Error similarity' not in html
    assert {"scores", "losses"} <= drawn(tmp_path / "run")
    assert "similarity" not in drawn(tmp_path / "run")


@pytest.mark.usefixtures("without_figures")
def test_results_of_the_version_before_are_read_with_the_present_keys(tmp_path: Path) -> None:
    now = results()
    former = now | {"gate": now["reconstruction_check"], "zoo": now["zoo"] | {"way": "subset"}}
    del former["reconstruction_check"]
    found = FinishedRun.read(write_run(tmp_path / "run", former, scores=False, curves=False))
    assert found.results["reconstruction_check"] == now["reconstruction_check"]
    assert found.part("zoo")["collector"] == "subset"
    assert not {"gate", "way"} & (found.results.keys() | found.part("zoo").keys())


def test_failed_check_comes_first_in_plain_words(tmp_path: Path) -> None:
    html = render(write_run(tmp_path / "run", failed())).read_text(encoding="utf-8")
    text = text_of(html)
    headline = "These 100 sampled networks do not work: accuracy 10.2%, where chance is 10.0% and"
    assert f"{headline} the 20 originals reach 97.6%." in text
    alarm = text.index("Reconstruction check failed: this generator cannot rebuild networks it has not seen")
    assert text.index(headline) < alarm < text.index("The chosen sample")
    assert "41.0% after being rebuilt from their latents (56.6 points lost, 1.0 tolerated)" in text
    assert "K = 20 is too small." in text
    assert "Dotted line: chance, 10.0%." in text
    assert 'class="verdict void"' in html


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    ("gap", "trajectory", "said"),
    [
        (2.53, True, "is 2.5 times that on those it was fitted to: it has memorised these."),
        (1.2, True, "is 1.2 times that on those it was fitted to, which says little here: their neighbours"),
        (1.2, False, "is 1.2 times that on those it was fitted to: it has not memorised single"),
    ],
)
def test_what_the_denoising_gap_says(tmp_path: Path, gap: float, trajectory: bool, said: str) -> None:
    found = results(denoising={"members": 0.1, "held_out": 0.1 * gap, "gap": gap})
    found["zoo"]["trajectory"] = trajectory
    text = text_of(render(write_run(tmp_path / "run", found)).read_text(encoding="utf-8"))
    assert f"Denoising gap. On originals kept out of the fit, the loss of the denoiser {said}" in text


@pytest.mark.usefixtures("without_figures")
def test_no_denoising_gap_no_sentence(folder: Path, tmp_path: Path) -> None:
    unknown = results(denoising={"members": 0.1, "held_out": None, "gap": None})
    for html in (folder / "report.html", render(write_run(tmp_path / "run", unknown))):
        assert "Denoising gap" not in text_of(html.read_text(encoding="utf-8"))


def test_everything_that_may_be_null_is_null(tmp_path: Path) -> None:
    rows = [
        model(name, 0.9, 1, train=NULLS, test=NULLS, similarity=None, distance=None, label=None,
              selected={"index": None, "train": None, "test": None, "test_ci95": None, "vs_original": None})
        for name in ("original", "p-diff")
    ]  # fmt: skip
    empty = {"denoising": None} | dict.fromkeys(
        (
            "verdict",
            "reconstruction_check",
            "notes",
            "machine",
            "n_items",
            "timings_s",
            "peak_rss_bytes",
            "command",
        )
    )
    run = tmp_path / "run"
    write_json(
        run / "results.json",
        results(*rows, **empty, task={"name": None, "metric": None, "chance": None}, zoo={}),
    )
    text = text_of(render(run).read_text(encoding="utf-8"))
    assert "1 sampled network: no mean score is known." in text
    assert "This run kept no stats.jsonl, so there are no loss curves." in text
    assert "The scores of the single networks were not kept, so there is no histogram." in text
    assert "The command was not recorded" in text
    assert "This run folder holds no samples/best.safetensors" in text
    assert "None" not in text
    assert not (run / "figures").exists()


def test_single_networks_and_scores_that_are_not_finite(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(model("original", 0.9, 3), model("p-diff", 0.9, 1)))
    broken = {"train": torch.tensor([0.9, 0.9, 0.8]), "test": torch.tensor([0.9, torch.nan, 0.8])}
    save_tensors(run / "scores/original.safetensors", broken)
    html = render(run).read_text(encoding="utf-8")
    assert "1 sampled network scores 90.0%, the 3 originals 90.0%." in html
    assert {"scores", "similarity", "losses"} <= drawn(run)


def test_names_are_escaped(tmp_path: Path) -> None:
    evil, cost = "<script>alert('x')</script>", "a $x$ & b_1"
    found = results(model("original", 0.9), model("p-diff", 0.9, label=evil), model("cost", 0.9, label=cost))
    found |= {"experiment": evil, "notes": [evil], "command": evil}
    run = write_run(tmp_path / "run", found)
    write_text(run / "config.yaml", evil)
    html = render(run).read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert re.search(r"<text[^>]*>a \$x\$ &amp; b_1 \(100\)</text>", html)


# Mistakes --------------------------------------------------------------------------------------------


def test_missing_results_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        render(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/results.json does not exist; expected a finished run folder; "
        f"run `paramdiff compare run_dir={tmp_path}` first, or `paramdiff run` for all stages"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1', "is not valid JSON"),
        ('{"schema": 2}', "has schema 2; expected schema 1"),
        ("[]", "has schema None"),
        (
            '{"schema": 1, "models": [{"name": "original"}]}',
            "has no row 'p-diff'; expected original and p-diff",
        ),
    ],
)
def test_unusable_results(tmp_path: Path, content: str, message: str) -> None:
    write_text(tmp_path / "results.json", content)
    with pytest.raises(RunFolderError, match=re.escape(message)) as caught:
        render(tmp_path)
    assert f"remove it and run `paramdiff compare run_dir={tmp_path}` again" in str(caught.value)


def test_missing_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(ParamdiffError) as caught:
        render(tmp_path)
    assert str(caught.value) == (
        'the report needs jinja2, which is not installed; pip install "paramdiff[report]", '
        "then run `paramdiff report` again"
    )


# Words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "value", "higher", "text"),
    [
        ("accuracy", 0.5, True, "50.0%"),
        ("mean_iou", 0.5, True, "50.0%"),
        ("accuracy", 50.0, True, "50.00"),
        ("r2", 0.5, True, "0.5000"),
        ("loss", 0.5, False, "0.5000"),
        ("perplexity", 23.4, False, "23.40"),
    ],
)
def test_per_cent_only_for_fractions(
    tmp_path: Path, metric: str, value: float, higher: bool, text: str
) -> None:
    task = {"metric": metric, "higher_is_better": higher}
    run = read(tmp_path, results(model("original", value), model("p-diff", value), task=task))
    assert Metric.of(run)(value) == text


def test_differences_carry_their_sign() -> None:
    metric = Metric("accuracy", True, True, 1, None)
    assert [metric.signed(value) for value in (0.004, -0.031, 0.0001, None)] == ["+0.4", "−3.1", "±0.0", "–"]


@pytest.mark.parametrize(
    ("higher", "bounds", "outcome"),
    [
        (True, [0.001, 0.01], "clearly better"),
        (True, [-0.01, -0.001], "clearly worse"),
        (False, [-0.01, -0.001], "clearly better"),
        (True, [-0.001, 0.01], "no clear difference"),
    ],
)
def test_difference_is_judged_by_its_interval(
    tmp_path: Path, higher: bool, bounds: list[float], outcome: str
) -> None:
    selected = {"test": 0.9, "vs_original": {"difference": sum(bounds) / 2, "ci95": bounds}}
    found = results(model("original", 0.9), model("p-diff", 0.9, selected=selected))
    found["task"] |= {"higher_is_better": higher}
    assert wording.cards(read(tmp_path, found))[0].text.endswith(f"{outcome}.")


def test_run_may_be_about_another_generator(tmp_path: Path) -> None:
    run = read(
        tmp_path,
        results(model("original", 0.9), model("vae", 0.8, 30), model("p-diff", 0.7), generator="vae"),
    )
    assert wording.headline(run) == "30 sampled networks score 80.0% on average, the 100 originals 90.0%."
    assert [row.name for row in run.baselines] == ["p-diff"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (59.4, "59 s"), (185.2, "3 min 05 s"), (3599.6, "1 h 00 min"), (None, "–")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


# Figures ---------------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.data())
def test_bins_hold_every_score_once(items: int, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, items), min_size=1, max_size=30))
    values = torch.tensor(counts, dtype=torch.float64) / items
    edges = bin_edges(values, items, 28)
    assert len(edges) <= 30
    assert edges == sorted(edges)
    assert int(torch.histogram(values, torch.tensor(edges, dtype=torch.float64)).hist.sum()) == len(counts)


def test_bins_draw_no_comb() -> None:
    values = torch.arange(300, 361, dtype=torch.float64) / 360
    edges = torch.tensor(bin_edges(values, 360, 28), dtype=torch.float64)
    assert set(torch.histogram(values, edges).hist.tolist()[:-1]) == {3.0}


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-12, 5e8])
def test_bins_of_equal_values(value: float) -> None:
    edges = bin_edges(torch.full((4,), value, dtype=torch.float64), None, 28)
    assert edges[0] < value < edges[-1]


def test_zoom_only_where_far_off_networks_squash_the_rest() -> None:
    reference = [97.0, 98.0]
    near, far = ([0.8, 0.9], [96.5, 98.5]), ([0.1, 0.2], [10.0, 11.0])
    assert zoom(reference, {"original": near}) is None
    window = zoom(reference, {"original": near, "p-diff": far})
    assert window is not None
    assert 90 < window[0] < 97
    assert window[1] == 98.5


def test_every_row_looks_different(tmp_path: Path) -> None:
    others = [model(f"g{i}", 0.9) for i in range(18)]
    run = read(tmp_path, results(model("original", 0.9), *others, model("p-diff", 0.9)))
    looks = row_looks(run)
    assert len(looks) == len(set(looks.values())) == 20


def test_inline_drawing_keeps_files_apart_from_the_page(tmp_path: Path) -> None:
    figure, axes = canvas(200)
    axes[0, 0].set_xlabel("x")
    with style():
        drawn = save(Plot("one", 'a "title"', "", figure), tmp_path)
    assert "var(--sans)" in drawn
    assert "var(--sans)" not in (tmp_path / "one.svg").read_text()
    assert 'aria-label="a &#34;title&#34;"' in drawn
    ElementTree.fromstring(drawn)


def test_inline_renames_ids_and_their_uses() -> None:
    use = '<path id="a"/><use xlink:href="#a" clip-path="url(#c)"/></svg>'
    drawn = inline(f'<?xml?>\n<svg width="1pt" height="2pt" viewBox="0 0 1 2">{use}', "n", "t")
    renamed = '<path id="n-a"/><use xlink:href="#n-a" clip-path="url(#n-c)"/></svg>'
    assert drawn == f'<svg viewBox="0 0 1 2" role="img" aria-label="t">{renamed}'


def test_curves_survive_kills_and_resumption(tmp_path: Path) -> None:
    def line(name: str, stage: str, step: int, loss: Any) -> str:
        return json.dumps({"stage": stage, "name": name, "step": step, "loss": loss})

    lines = [
        line("ae", "fit", 1, 2.0), line("ae", "fit", 0, 3.0), line("ae", "fit", 1, 1.0),
        line("ae", "vae", 0, 5.0), line("diffusion", "fit", 0, 4.0), line("ae", "fit", 2, None),
        "7", '{"stage": "fit", "na',
    ]  # fmt: skip
    write_text(tmp_path / "stats.jsonl", "\n".join(lines))
    assert read_curves(tmp_path / "stats.jsonl") == [
        LossCurve("ae, fit", [0, 1], [3.0, 1.0]), LossCurve("ae, vae", [0], [5.0]), LossCurve("diffusion", [0], [4.0])
    ]  # fmt: skip


def test_long_curves_become_envelopes() -> None:
    losses = [float(i % 7) for i in range(10_000)]
    steps, low, high, middle = blocks(LossCurve("c", list(range(10_000)), losses))
    assert len(steps) == len(low) == len(high) == len(middle) <= BLOCKS
    assert (min(low), max(high)) == (0.0, 6.0)
    assert all(abs(value - 3) < 0.3 for value in middle)


@pytest.mark.usefixtures("without_figures")
def test_rows_with_numbers_in_their_names_are_explained(tmp_path: Path) -> None:
    names = (
        "average-of-16",
        "noised-0.3",
        "gaussian-0.7",
        "fine-tuned-20",
        "latent-noise-0.1",
        "swag-2",
        "matched-noise",
    )
    rows = [model(name, 0.97, 100) for name in ("p-diff", *names)]
    html = render(write_run(tmp_path / "run", results(model("original", 0.976, 200), *rows))).read_text(
        "utf-8"
    )
    explained = html[html.index("The rows of the table") :].partition("</dl>")[0]
    assert explained.count("<dt>") == 2 + len(names)
