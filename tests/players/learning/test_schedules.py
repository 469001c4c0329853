"""Settings by image size, and the published arithmetic of budgets and epochs."""

import pytest
import torch

from agents.learning.schedules import Epochs, Settings, StepDecay, settings_for
from envs.errors import ScenarioError

# budget, N, m, iterations per epoch: cost, iterations, epochs (DFME's and MeCo's code)
TABLE = [
    (20_000_000, 256, 1, 50, 1_792, 11_160, 224),
    (2_000_000, 256, 1, 50, 1_792, 1_116, 23),
    (200_000_000, 256, 5, 100, 2_816, 71_022, 711),
    (20_000_000, 256, 5, 100, 2_816, 7_102, 72),
    (20_000_000, 64, 1, 50, 448, 44_642, 893),
    (500_000, 64, 1, 50, 448, 1_116, 23),
]


@pytest.mark.parametrize(
    ("budget", "batch", "directions", "length", "cost", "iterations", "epochs"), TABLE
)
def test_cost_iterations_and_epochs_are_the_published_ones(
    budget, batch, directions, length, cost, iterations, epochs
):
    laid = Epochs(budget, Settings(batch=batch, directions=directions).cost, length)
    assert (laid.cost, laid.iterations, laid.count) == (cost, iterations, epochs)


def test_milestones_are_whole_epochs_of_the_published_fractions():
    assert Epochs(20_000_000, 1_792, 50).milestones((0.1, 0.3, 0.5)) == (22, 67, 112)
    assert Epochs(2_000_000, 1_792, 50).milestones((0.5, 0.8)) == (11, 18)


def test_a_long_budget_gets_the_published_milestones_unasked():
    assert Epochs(20_000_000, 1_792, 50).milestones() == (22, 67, 112)
    assert Epochs(500_000, 448, 50).milestones() == (2, 6, 11)


def test_a_short_budget_keeps_its_rates_unless_asked():
    # 50,000 queries pay for two epochs and a bit: all published milestones would come at once
    epochs = Epochs(50_000, 448, 50)
    assert epochs.milestones() == ()
    assert epochs.milestones((0.1, 0.3, 0.5)) == (0, 0, 1)
    assert Epochs(20 * 50 * 448 - 1, 448, 50).milestones() == ()
    assert Epochs(20 * 50 * 448, 448, 50).milestones() == (2, 6, 10)


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
def test_no_rate_falls_before_the_first_epoch(epochs):
    """Fractions of a few epochs are rounded to 0 and 1, where nothing was played yet."""
    weights = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    milestones = Epochs((epochs - 1) * 50, cost=1, length=50).milestones((0.4, 0.8))
    decay, rates = StepDecay([optimizer], milestones, factor=0.3), []
    for epoch in range(1, epochs + 1):
        decay.begin(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx({1: 1.0, 2: 1.0, 3: 0.3, 7: 0.09}[epochs])


def test_rates_fall_before_their_epoch_and_stay():
    weights = torch.nn.Parameter(torch.zeros(1))
    optimizers = [torch.optim.SGD([weights], lr=1.0), torch.optim.Adam([weights], lr=0.1)]
    decay = StepDecay(optimizers, (2, 4), factor=0.5)
    rates = []
    for epoch in range(1, 6):
        decay.begin(epoch)
        rates.append(tuple(o.param_groups[0]["lr"] for o in optimizers))
    assert [first for first, _ in rates] == [1.0, 0.5, 0.5, 0.25, 0.25]
    assert [second for _, second in rates] == pytest.approx([0.1, 0.05, 0.05, 0.025, 0.025])


@pytest.mark.parametrize(
    ("shape", "batch", "generator_rate", "clone_rate"),
    [((3, 32, 32), 256, 1e-4, 0.1), ((1, 28, 28), 128, 1e-4, 0.1), ((1, 8, 8), 64, 1e-3, 0.05)],
)
def test_settings_follow_the_image_size(shape, batch, generator_rate, clone_rate):
    settings = settings_for(shape)
    assert (settings.batch, settings.generator_rate, settings.clone_rate) == (
        batch, generator_rate, clone_rate,
    )  # fmt: skip
    assert (settings.momentum, settings.weight_decay, settings.epsilon) == (0.9, 5e-4, 1e-3)


def test_every_setting_can_be_overridden_and_none_leaves_it():
    settings = settings_for((1, 8, 8), {"batch": 32, "clone_rate": None, "milestones": [0.5, 0.8]})
    assert (settings.batch, settings.clone_rate, settings.milestones) == (32, 0.05, (0.5, 0.8))


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", 0), ("directions", 0), ("epsilon", 0.0), ("clone_rate", -1.0), ("decay", 0.0),
     ("generator_steps", -1), ("milestones", [1.5])],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ScenarioError, match=name):
        settings_for((1, 8, 8), {name: value})
