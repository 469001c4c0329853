"""The training loop: it learns, it repeats itself, and it leaves no trace."""

import pytest
import torch
from torch import Tensor, nn

from envs.data.sources import load
from envs.errors import ArenaError
from envs.training.evaluation import evaluate, predict
from envs.training.loop import cross_entropy, fit
from envs.training.optimisers import RateSchedule, make_optimiser
from envs.training.recipes import Recipe, recipe

QUICK = Recipe(epochs=3, batch=16, learning_rate=0.1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """Build a network with batch norm and dropout from a seed, the global stream untouched."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(4 * 4 * 4, 3),
        )


def toy(count: int = 90) -> tuple[Tensor, Tensor]:
    """Draw images whose class is the brightest of three columns."""
    labels = torch.arange(count) % 3
    images = torch.rand((count, 1, 4, 4), generator=generator(5)) * 0.5
    images[torch.arange(count), 0, :, labels] += 0.5
    return images, labels


def weights(network: nn.Module) -> Tensor:
    return torch.cat([t.double().flatten() for t in network.state_dict().values()])


def test_a_separable_task_is_learnt():
    images, labels = toy()
    network = tiny()
    report = fit(network, images, labels, QUICK.with_changes(epochs=15), generator=generator())
    assert evaluate(network, images, labels) == 1.0
    assert report.train_loss[-1] < 0.2 * report.train_loss[0]
    assert len(report.train_loss) == 15
    assert report.steps == 15 * 6
    assert report.seconds > 0


@pytest.mark.slow
def test_the_digits_recipe_reaches_97_percent_with_a_small_network():
    data = load("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip
    fit(network, data.train.pixels, data.train.labels, recipe("digits"), generator=generator())
    assert evaluate(network, data.test.pixels, data.test.labels) > 0.97


def test_a_one_hot_posterior_trains_bit_for_bit_as_its_label_does():
    images, labels = toy()
    hard, soft = tiny(), tiny()
    each = QUICK.with_changes(label_smoothing=0.1)
    one_hot = nn.functional.one_hot(labels, 3).float()
    first = fit(hard, images, labels, each, generator=generator())
    second = fit(soft, images, one_hot, each, generator=generator())
    assert torch.equal(weights(hard), weights(soft))
    assert first.train_loss == second.train_loss


def test_the_cross_entropy_is_that_of_torch():
    logits = torch.randn((20, 5), generator=generator()) * 3
    labels = torch.arange(20) % 5
    posteriors = torch.rand((20, 5), generator=generator(1)).softmax(1)
    for targets in (labels, posteriors):
        for smoothing in (0.0, 0.2):
            expected = nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
            found = cross_entropy(logits, targets, smoothing)
            assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("augment", ["none", "shift", "crop-flip"])
def test_one_seed_gives_one_network_and_the_global_stream_stays(augment: str):
    images, labels = toy()
    each = QUICK.with_changes(augment=augment)
    networks = [tiny(dropout=0.3) for _ in range(3)]
    state = torch.get_rng_state()
    fit(networks[0], images, labels, each, generator=generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)  # somebody else draws
    fit(networks[1], images, labels, each, generator=generator(1))
    fit(networks[2], images, labels, each, generator=generator(2))
    assert torch.equal(weights(networks[0]), weights(networks[1]))
    assert not torch.equal(weights(networks[0]), weights(networks[2]))


def test_8_bit_and_float_images_train_the_same_network():
    pixels = (toy()[0] * 255).round().byte()
    one, two = tiny(), tiny()
    fit(one, pixels, toy()[1], QUICK, generator=generator())
    fit(two, pixels.float() / 255, toy()[1], QUICK, generator=generator())
    assert torch.equal(weights(one), weights(two))


def test_one_step_of_sgd_is_the_hand_computed_one():
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.zeros((2, 1)))
    each = Recipe(
        epochs=1, batch=4, learning_rate=0.5, momentum=0.9, weight_decay=0.0, schedule="constant"
    )
    images = torch.ones((2, 1, 1, 1))
    fit(network, images, torch.tensor([0, 0]), each, generator=generator())
    # d loss / d weight = (softmax - one-hot) * x = (-1/2, 1/2); Nesterov's first step is
    # lr * (1 + momentum) * gradient
    assert network[1].weight.flatten().tolist() == pytest.approx([0.475, -0.475])


def test_clipping_bounds_the_step():
    images, labels = toy()
    each = Recipe(
        epochs=1, batch=90, learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=1e-3,
        schedule="constant",
    )  # fmt: skip
    network = tiny()
    before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
    fit(network, images, labels, each, generator=generator())
    after = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_adam_takes_its_first_beta_from_the_momentum():
    optimiser = make_optimiser(tiny().parameters(), Recipe(optimiser="adam", momentum=0.5))
    assert isinstance(optimiser, torch.optim.Adam)
    assert optimiser.defaults["betas"] == (0.5, 0.999)


def test_the_scheduler_sets_the_rate_of_each_step():
    optimiser = make_optimiser(tiny().parameters(), QUICK)
    schedule = RateSchedule(optimiser, QUICK, 4)
    rates = []
    for _ in range(4):
        rates.append(optimiser.param_groups[0]["lr"])
        schedule.step()
    assert rates == pytest.approx([0.1 * QUICK.rate_factor(s, 4) for s in range(4)])
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_every_image_is_shown_once_an_epoch_and_a_lone_one_is_not_left_over():
    shown: list[list[int]] = []

    def spy(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        shown.append(targets.tolist())
        return cross_entropy(network(images), targets % 3)

    images, _ = toy(33)
    each = QUICK.with_changes(epochs=2, batch=8)
    fit(tiny(), images, torch.arange(33), each, generator=generator(), loss=spy)
    assert [len(batch) for batch in shown] == [8, 8, 8, 9] * 2
    first, second = ([i for batch in half for i in batch] for half in (shown[:4], shown[4:]))
    assert sorted(first) == sorted(second) == list(range(33))
    assert first != second


def test_a_loss_of_ones_own_runs_the_network_itself():
    images, labels = toy()
    plain, own = tiny(), tiny()

    def same(network: nn.Module, batch: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(network(batch), targets)

    fit(plain, images, labels, QUICK, generator=generator())
    fit(own, images, labels, QUICK, generator=generator(), loss=same)
    assert torch.equal(weights(plain), weights(own))


def test_frozen_parts_do_not_change_by_a_bit_and_are_released_after():
    images, labels = toy()
    network = tiny()
    body, head = network[:2], network[5]
    before = weights(body), weights(head)
    fit(network, images, labels, QUICK, generator=generator(), frozen=(network[0], network[1]))
    assert torch.equal(weights(body), before[0])
    assert not torch.equal(weights(head), before[1])
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.filterwarnings("error")
def test_a_diverging_run_says_when_and_what_to_lower():
    images, labels = toy()

    def broken(network: nn.Module, batch: Tensor, targets: Tensor) -> Tensor:
        return network(batch).sum() * float("nan")

    with pytest.raises(
        ArenaError, match=r"became nan in epoch 1 of 3; lower learning_rate \(0.1\)"
    ):
        fit(tiny(), images, labels, QUICK, generator=generator(), loss=broken)


def test_each_epoch_is_reported_and_may_be_measured():
    images, labels = toy()
    seen: list[tuple[int, float]] = []
    network, unwatched = tiny(), tiny()

    def measure(epoch: int, loss: float) -> None:
        seen.append((epoch, loss))
        evaluate(network, images, labels)

    report = fit(network, images, labels, QUICK, generator=generator(), on_epoch=measure)
    fit(unwatched, images, labels, QUICK, generator=generator())
    assert seen == list(enumerate(report.train_loss, 1))
    assert torch.equal(weights(network), weights(unwatched))  # measuring changed nothing


def test_training_flags_are_left_as_they_were():
    images, labels = toy()
    network = tiny().train()
    network[1].eval()
    flags = [m.training for m in network.modules()]
    fit(network, images, labels, QUICK, generator=generator())
    evaluate(network, images, labels)
    assert [m.training for m in network.modules()] == flags


def test_prediction_uses_no_chance_no_gradient_and_no_batch_statistics():
    images, _ = toy()
    network = tiny(dropout=0.5).train()
    before, state = weights(network), torch.get_rng_state()
    whole, parts = predict(network, images), predict(network, images, batch=7)
    assert torch.allclose(whole, parts, atol=1e-6)
    assert not whole.requires_grad
    assert torch.equal(weights(network), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_accuracy_of_a_hand_made_classifier():
    class Brightest(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, 0, 0, :3]

    images = torch.eye(3).view(3, 1, 1, 3).repeat(1, 1, 2, 1)
    assert evaluate(Brightest(), images, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    assert evaluate(Brightest(), images, torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1.0]])) == 1.0


def test_inputs_that_do_not_fit_are_refused():
    images, labels = toy()
    with pytest.raises(ValueError, match="as many targets, got 90 and 89"):
        fit(tiny(), images, labels[1:], QUICK, generator=generator())
    with pytest.raises(ValueError, match="at least one image"):
        predict(tiny(), images[:0])


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({}, torch.float32),
        ({"amp": "bf16"}, torch.float32),
        ({"amp": "fp16"}, torch.float32),
        ({"amp": "bf16", "amp_on_cpu": True}, torch.bfloat16),
    ],
)
def test_a_cpu_computes_in_float32_unless_it_is_told_otherwise(
    changes: dict[str, object], dtype: torch.dtype
):
    images, labels = toy()
    seen: set[torch.dtype] = set()

    def spy(network: nn.Module, batch: Tensor, targets: Tensor) -> Tensor:
        logits = network(batch)
        seen.add(logits.dtype)
        return cross_entropy(logits, targets)

    network = tiny()
    each = QUICK.with_changes(epochs=15, **changes)
    fit(network, images, labels, each, generator=generator(), loss=spy)
    assert seen == {dtype}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert evaluate(network, images, labels) == 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_a_separable_task_is_learnt_on_the_device_in_every_precision(amp: str):
    images, labels = (t.cuda() for t in toy())
    state, device_state = torch.get_rng_state(), torch.cuda.get_rng_state()
    network = tiny(dropout=0.1).cuda()
    each = QUICK.with_changes(epochs=20, amp=amp, augment="none", clip_norm=5.0)
    fit(network, images, labels, each, generator=torch.Generator("cuda").manual_seed(0))
    assert evaluate(network, images, labels) > 0.97
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.cuda.get_rng_state(), device_state)
