"""Figures show the numbers of the runs."""

import warnings
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib.colors
import numpy as np
import pytest

from incnet.report import write_figures
from incnet.report.arms import networks
from incnet.report.figures import draw
from incnet.report.figures.cost import accuracy_by_flops, accuracy_by_seconds, inference_cost
from incnet.report.figures.learning import learning_curves, loss_curves
from incnet.report.figures.sizes import accuracy_by_parameters
from incnet.report.figures.windows import window_fits
from incnet.report.interval import wilson
from incnet.report.reading import find_runs, read_history
from incnet.report.style import COLOURS, PALETTE, inline_svg, label_accuracies, look, new_figure, style

from .folders import write_run


def network(folder):
    (one,) = networks(read_history(*found) for found in find_runs([folder]))
    return one


def line(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


@pytest.mark.parametrize("values", [[100, 100, 100], [60, 99, 100], [0, 1, 3]])
def test_an_accuracy_has_no_tick_where_it_cannot_be(values):
    with style():
        figure = new_figure()
        axes = figure.subplots()
        axes.plot(values)
        label_accuracies(axes, "accuracy, %")
        axes.margins(y=0.2)
        shown = [tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    assert len(shown) >= 2
    assert 0 <= shown[0] < shown[-1] <= 100


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_ticks_are_whole_epochs(epochs, tmp_path):
    found = network(write_run(tmp_path / "run", epochs=epochs))
    with style():
        for figure in (learning_curves(found), loss_curves(found), inference_cost(found)):
            assert all(tick == round(tick) for axes in figure.axes for tick in axes.get_xticks())


def test_learning_curves(run, runs):
    figure = learning_curves(network(run))
    axes, strip = figure.axes
    curve, *insertions = axes.lines
    assert list(curve.get_xdata()) == list(range(1, 13))
    assert list(curve.get_ydata()) == pytest.approx([30 + 5 * epoch for epoch in range(1, 13)])
    assert [list(line.get_xdata()) for line in insertions] == [[4, 4], [8, 8]]
    bars = [(bar.get_x(), bar.get_width()) for bar in strip.patches]
    assert bars == [(0, 4), (4, 4), (4, 1), (4, 1), (8, 4), (8, 1), (8, 1)]  # look-ahead: lighter, and hatched
    assert [bool(bar.get_hatch()) for bar in strip.patches] == [False, False, False, True, False, False, True]
    assert [text.get_text() for text in strip.texts] == ["S1", "S2", "S3"]
    figure = learning_curves(network(runs))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "look-ahead", "random"]
    assert len(figure.axes[0].collections) == 0  # both seeds of look-ahead are equal: no band
    assert axes.get_ylabel() == "validation accuracy, %"


def test_seeds_are_a_mean_with_a_band(tmp_path):
    write_run(tmp_path / "a", gain=0.02)
    write_run(tmp_path / "b", gain=0.04, seed=1)
    axes = learning_curves(network(tmp_path)).axes[0]
    assert list(line(axes, "look-ahead").get_ydata()) == pytest.approx([30 + 3 * epoch for epoch in range(1, 13)])
    (band,) = axes.collections
    low, high = band.get_datalim(axes.transData).intervaly
    assert high == pytest.approx(66 + np.std([54, 78], ddof=1))
    assert low < 33


def test_costs(runs):
    arms = network(runs)
    inference = line(inference_cost(arms).axes[0], "look-ahead")
    assert list(inference.get_ydata()) == [100] * 4 + [200] * 4 + [300] * 4
    assert inference.get_drawstyle() == "steps-pre"
    flops = line(accuracy_by_flops(arms).axes[0], "baseline").get_xdata()
    assert flops == pytest.approx([2 * 90e9 * epoch for epoch in range(1, 13)])
    axes = accuracy_by_seconds(arms).axes[0]
    assert axes.get_xlabel() == "time in training steps so far, s"
    assert list(line(axes, "baseline").get_xdata()) == [2.5 * epoch for epoch in range(1, 13)]


def test_time_where_steps_were_not_timed(tmp_path):
    axes = accuracy_by_seconds(network(write_run(tmp_path / "run", ledger=False))).axes[0]
    assert axes.get_xlabel() == "time so far, s"
    assert list(axes.lines[0].get_xdata())[:5] == [10, 20, 30, 40, 70]


def test_sizes(run):
    axes = accuracy_by_parameters(network(run)).axes[0]
    stages = line(axes, "look-ahead")
    assert list(stages.get_xdata()) == [1_000, 5_000, 20_000]
    assert list(stages.get_ydata()) == pytest.approx([50, 70, 90])
    assert [text.get_text() for text in axes.texts] == ["S1", "S2", "S3"]
    assert axes.get_ylabel() == "best validation accuracy, %"


def test_sizes_with_tested_stages(tmp_path):
    run = write_run(tmp_path / "run", tested=[0.947, 0.983, 0.978], test_images=359)
    axes = accuracy_by_parameters(network(run)).axes[0]
    assert list(line(axes, "look-ahead").get_ydata()) == pytest.approx([94.7, 98.3, 97.8])
    (bars,) = axes.collections
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    for (low, high), accuracy in zip(ends, [0.947, 0.983, 0.978], strict=True):
        expected = wilson(accuracy, 359)
        assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert axes.get_ylabel() == "test accuracy, %"


def test_losses(run, runs):
    axes = loss_curves(network(run)).axes[0]
    assert [line(axes, name).get_ydata().tolist() for name in ("validation", "training")] == [[1.0] * 12] * 2
    labels = [text.get_text() for text in loss_curves(network(runs)).legends[0].get_texts()]
    assert len(labels) == 6
    assert "random, training" in labels


@pytest.mark.parametrize("arms", [12, 20])
def test_many_arms(tmp_path, arms):
    """Each figure keeps its height for curves, its legend lies below them, and what is left out is said."""
    for i in range(arms):
        for seed in (0, 1):
            write_run(tmp_path / f"{i}-{seed}", seed=seed, gamma=(i + 1) / 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawings = list(draw(network(tmp_path)))
        for drawing in drawings:
            drawing.figure.draw_without_rendering()
    several = [drawing for drawing in drawings if not drawing.name.startswith("windows-")]
    assert len(several) == 6
    for drawing in several:
        figure, axes = drawing.figure, drawing.figure.axes[0]
        (legend,) = figure.legends
        assert len(legend.get_texts()) == arms
        assert legend.get_window_extent().y1 <= figure.axes[-1].get_window_extent().y0
        assert legend.get_window_extent().y0 >= 0
        assert axes.get_window_extent().height / figure.dpi > 2
    assert (f"of {arms} of the {2 * arms} runs that grow" in several[0].caption) == (2 * arms > 24)
    assert len(several[0].figure.axes[1].texts) == 0
    assert len({bar.get_y() for bar in several[0].figure.axes[1].patches}) == (arms if arms > 12 else 2 * arms)


def test_values_under_the_pointer(run):
    told = {}
    for drawing in draw(network(run)):
        root = ElementTree.fromstring(inline_svg(drawing.figure, drawing.name, ""))
        hints = [group for group in root.iter("g") if group.get("class") == "hint"]
        told[drawing.name] = [[span.text for span in hint.iter("tspan")] for hint in hints]
    assert told["learning-curves"][5] == ["look-ahead", "validation accuracy 60 %", "epoch 6"]
    assert told["training-flops"][0] == ["look-ahead", "validation accuracy 35 %", "training so far 60 GFLOP"]
    assert told["inference-cost"][4] == ["look-ahead", "inference 200 MACs per image", "epoch 5"]
    assert told["accuracy-parameters"][2][2] == "parameters 20 k"
    assert len(told["loss"]) == 24


def test_windows(run):
    """The made-up runs rise by five points each epoch, and so do the lines of their windows, of three epochs."""
    axes = window_fits(read_history(run)).axes[0]
    fits = [line for line in axes.lines if line.get_linewidth() > 2]
    assert [list(fit.get_xdata()) for fit in fits] == [[2, 4], [6, 8], [10, 12]]
    assert [list(fit.get_ydata()) for fit in fits] == [
        pytest.approx([40, 50]),
        pytest.approx([60, 70]),
        pytest.approx([80, 90]),
    ]
    assert [fit.get_linestyle() for fit in fits] == ["-", "--", "--"]  # only the first one made it grow
    assert [text.get_text() for text in axes.texts] == ["45°"] * 3


def test_windows_in_another_unit(tmp_path):
    run = write_run(tmp_path / "run", angle_unit="fraction")
    text = (run / "metrics.jsonl").read_text().replace('"slope": 5.0', '"slope": 0.05')
    (run / "metrics.jsonl").write_text(text)
    fits = [line for line in window_fits(read_history(run)).axes[0].lines if line.get_linewidth() > 2]
    assert list(fits[0].get_ydata()) == pytest.approx([40, 50])


def test_arms_differ_in_more_than_colour():
    looks = [look(i, 12) for i in range(12)]
    assert len({(str(ours.line), ours.marker) for ours in looks}) == 12
    assert all(str(one.line) != str(two.line) for one, two in pairwise(looks))


def test_colours_stand_out_from_both_pages():
    """Contrast of WCAG: 4.5 for text; 2 at least for lines, which are marked by more than their colour."""

    def luminance(colour):
        rgb = np.array(matplotlib.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for page in (0, 1):
        paper = luminance(COLOURS["paper"][page])
        for name, colours in COLOURS.items():
            low, high = sorted([paper, luminance(colours[page])])
            contrast = (high + 0.05) / (low + 0.05)
            assert contrast >= {"paper": 1, "rule": 1.2, "ink": 4.5, "muted": 4.5}.get(name, 2), (name, contrast)
    assert len(set(PALETTE)) == 6


def test_files(runs, tmp_path):
    written = write_figures([runs], tmp_path / "figures")
    names = ["learning-curves", "loss", "inference-cost", "training-flops", "training-seconds", "accuracy-parameters"]
    names += ["windows-look-ahead", "windows-random"]
    assert [path.name for path in written] == [
        f"resnet20-cifar10-{name}.{kind}" for name in names for kind in ("svg", "png")
    ]
    for path in written:
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            assert path.read_bytes().startswith(b"\x89PNG")
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in write_figures([runs], tmp_path / "figures")} == before


def test_an_inline_figure(run):
    drawings = list(draw(network(run)))
    for drawing in drawings:
        svg = inline_svg(drawing.figure, drawing.name, drawing.title)
        root = ElementTree.fromstring(svg)
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert all(name.startswith(drawing.name) for name in ids)
        assert "<text" in svg
        assert "var(--ink)" in svg
        assert not [colour for colour, _ in COLOURS.values() if colour in svg]
    assert len(drawings) == 7


def test_names_are_drawn_as_they_are(tmp_path):
    with style(), warnings.catch_warnings():
        figure = accuracy_by_parameters(network(write_run(tmp_path / "run")))
        figure.axes[0].annotate("$x^ & <b>\u4e16", (1_000, 50))
    svg = inline_svg(figure, "f", 'a "title" & <more>')
    text = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    assert "$x^ & <b>\u4e16" in text


def test_nothing_to_draw(tmp_path):
    run = write_run(tmp_path / "run", epochs=1, finished=False)
    (run / "metrics.jsonl").write_text("")
    assert list(draw(network(run))) == []
