"""DFME's generator step, worked out again from what was asked; and that all steps squash alike."""

from dataclasses import replace

import torch

from agents.attackers.dfme import DFME


class Fixed(torch.nn.Module):
    """A clone of three classes with the same logits for every image."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(3))

    def forward(self, images):
        return self.logits + 0 * images.flatten(1).sum(1, keepdim=True)


def first_pixel(images):
    """Three classes; the first one by the first pixel, the others alike."""
    top = 0.2 + 0.6 * images[:, 0, 0, 0]
    return torch.stack([top, (1 - top) / 2, (1 - top) / 2], 1)


def test_a_generators_step_descends_the_published_estimate(fake_oracle, kit, monkeypatch):
    """Worked out again from what was asked: tanh, differences, d, 1 / (K N), and the sign."""
    asked, descended = [], []
    oracle, lent = fake_oracle(10_000, first_pixel, classes=3, listen=asked.append), kit()
    attacker = DFME(batch=8, epsilon=0.05)
    attacker.prepare(oracle, replace(lent, new_clone=Fixed))
    monkeypatch.setattr(
        attacker.synthesiser, "descend", lambda points, slope: descended.append((points, slope))
    )
    attacker.generator_step(oracle, lent)
    ((points, slope),) = descended
    points = points.detach().double()
    images, beside = asked[0].double().split(8)
    assert torch.allclose(images, (points.tanh() + 1) / 2, atol=1e-6)
    steps = torch.atanh(2 * beside - 1) - points
    assert torch.allclose(steps.flatten(1).norm(dim=1), torch.tensor(0.05).double(), rtol=1e-3)

    def disagreement(asked):
        logs = first_pixel(asked).log()
        # the clone's logits are 0, so that those of the victim are the distance
        return (logs - logs.mean(1, keepdim=True)).abs().mean(1)

    rise = (disagreement(beside) - disagreement(images))[:, None, None, None]
    expected = -64 * rise / 0.05 * (steps / 0.05) / (3 * 8)
    assert float(expected.abs().max()) > 1e-4
    assert torch.allclose(slope.double(), expected, rtol=0.02, atol=1e-5)


def test_clone_steps_ask_images_squashed_as_those_of_differences(fake_oracle, kit):
    asked, points = [], []
    oracle, lent = fake_oracle(10_000, listen=asked.append), kit()
    attacker = DFME(batch=8)
    attacker.prepare(oracle, lent)
    network = attacker.synthesiser.network
    inner = network.pre_activation
    network.pre_activation = lambda z: points.append(inner(z)) or points[-1]
    attacker.generator_step(oracle, lent)
    attacker.clone_step(oracle, lent, 8)
    assert [len(images) for images in asked] == [16, 8]
    for images, before in zip(asked, points, strict=True):
        assert torch.allclose(images[:8], (before.detach().tanh() + 1) / 2, atol=1e-6)


def test_differences_across_an_edge_are_left_out(fake_oracle, kit, monkeypatch):
    """A step's answers jump for one image: without it the estimate loses that image's slope."""

    def slopes(limit):
        def edge(images):
            answers = first_pixel(images)
            if len(images) == 16:
                answers[8] = torch.tensor([1e-9, 0.5, 0.5])
            return answers

        kept = []
        lent = replace(kit(), new_clone=Fixed)
        oracle = fake_oracle(10_000, edge, classes=3)
        attacker = DFME(batch=8, drop_jumps=limit)
        attacker.prepare(oracle, lent)
        monkeypatch.setattr(attacker.synthesiser, "descend", lambda _, slope: kept.append(slope))
        attacker.generator_step(oracle, lent)
        return kept[0]

    plain, dropped = slopes(None), slopes(100.0)
    assert float(plain[0].abs().max()) > 1
    assert not dropped[0].any()
    assert torch.equal(dropped[1:], plain[1:])
