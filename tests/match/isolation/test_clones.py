"""How clones leave the attacker's process: no code of theirs, and the same answers."""

import pytest
import torch
from torch import nn

from agents.learning.ensemble import Committee
from agents.learning.multi_exit_clone import Gated
from arena.isolation.handover import Exporter, received
from envs.errors import PlayerError
from envs.nets.registry import build
from envs.training.evaluation import clone_labels, predict

SHAPE = (1, 16, 16)
IMAGES = torch.rand(37, *SHAPE, generator=torch.Generator().manual_seed(1))


def network(name="conv-small", seed=0):
    return build(
        name,
        num_classes=10,
        image_shape=SHAPE,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.fixture
def exporter():
    return Exporter(network(), SHAPE)


def came(exporter, clone):
    return received(exporter.hand_over(clone), network(seed=9), torch.device("cpu"))


def test_the_scenarios_network_leaves_as_weights(exporter):
    clone = network(seed=3).train()
    written = exporter.hand_over(clone)
    assert written.steps == b""
    assert torch.equal(predict(came(exporter, clone), IMAGES), predict(clone, IMAGES))
    assert clone.training


class Turned(nn.Module):
    def __init__(self, inner, shift):
        super().__init__()
        self.inner, self.shift = inner, shift

    def forward(self, images):
        return self.inner(images).roll(self.shift, 1)


def gated():
    return Gated(network("resnet10-half"), 3, generator=torch.Generator().manual_seed(0))


OTHERS = {
    "committee": lambda: Committee([network(seed=1), network("lenet5", seed=2)]),
    "gated": gated,
    "turned": lambda: Turned(network(), 3),
    "other network": lambda: network("mobilenetv2-small"),
    "attention": lambda: build(
        "deit-tiny", num_classes=10, image_shape=SHAPE, generator=torch.Generator()
    ),
}


@pytest.mark.parametrize(
    "name", [n if n != "attention" else pytest.param(n, marks=pytest.mark.slow) for n in OTHERS]
)
def test_another_clone_leaves_as_a_program_with_the_same_answers(exporter, name):
    clone = OTHERS[name]()
    written = exporter.hand_over(clone)
    assert written.steps
    program = received(written, network(), torch.device("cpu"))
    for part in (IMAGES, IMAGES[:5], IMAGES[:1]):
        assert torch.equal(predict(program, part), predict(clone, part))


def test_a_program_is_used_again_only_while_it_answers_as_the_clone(exporter, monkeypatch):
    clone = Turned(network(), 3)
    first = exporter.hand_over(clone)
    exports = []
    real = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: exports.append(1) or real(*a, **k))
    with torch.no_grad():
        for weights in clone.parameters():
            weights.mul_(1.5)
    second = exporter.hand_over(clone)
    assert (second.steps, exports) == (first.steps, [])
    assert torch.equal(predict(came(exporter, clone), IMAGES), predict(clone, IMAGES))
    clone.shift = 4  # no weight tells this
    assert exporter.hand_over(clone).steps != first.steps
    assert exports == [1]


def test_a_hook_makes_another_clone_of_the_scenarios_network(exporter):
    clone = network()
    clone.register_forward_hook(lambda module, given, answer: answer.roll(1, 1))
    assert exporter.hand_over(clone).steps
    assert torch.equal(predict(came(exporter, clone), IMAGES), predict(clone, IMAGES))


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images)


class Equal(torch.Tensor):
    def __eq__(self, other):
        return torch.ones(len(self), dtype=torch.bool)


def keeps(images, kept=[]):  # noqa: B006 - it keeps what it is given
    kept.append(images)
    return images.flatten(1)[:, :10] * float(kept[0].sum())


def leaves(images):
    raise SystemExit


CHEATS = {
    "keeps_images": [keeps],
    "exit_in_forward": [leaves],
    "odd_logits": [
        lambda images: images.flatten(1)[:, :10, None],
        lambda images: images.flatten(1)[:, :13],
        lambda images: images.flatten(1)[:, :10] * float("nan"),
        lambda images: (images, images),
        lambda images: (images.flatten(1)[:, :10],),
        lambda images: {"logits": images.flatten(1)[:, :10]},
        lambda images: images.nonzero(),
    ],
}


@pytest.mark.parametrize(
    ("name", "number"), [(n, i) for n, c in CHEATS.items() for i in range(len(c))]
)
def test_a_clone_that_does_more_than_answer_is_refused_in_one_line(
    exporter, promises, name, number
):
    def scored():
        clone_labels(came(exporter, Answers(CHEATS[name][number])), IMAGES, 10)

    with pytest.raises(PlayerError) as fault:
        scored()
    assert "\n" not in str(fault.value)
    assert not promises[name].isolated


def test_a_false_equality_does_not_leave_with_the_clone(exporter, promises):
    clone = Answers(lambda images: images.flatten(1)[:, :10].as_subclass(Equal))
    try:
        program = came(exporter, clone)
    except PlayerError:  # torch exports no such tensor, which serves as well
        program = None
    if program is not None:
        assert type(program(IMAGES)) is torch.Tensor
    assert not promises["false_equality"].isolated


@pytest.mark.parametrize("clone", [3, "resnet", object(), network])
def test_what_is_no_module_is_refused(exporter, clone):
    with pytest.raises(PlayerError, match="expected a torch module as clone"):
        exporter.hand_over(clone)
