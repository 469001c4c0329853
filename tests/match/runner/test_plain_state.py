"""What a save says of objects, and that reading it runs nothing."""

import io
import json
from collections import OrderedDict, defaultdict, deque
from pathlib import Path

import pytest
import torch

from agents.learning.clone import CloneTrainer, l1_on_logits
from arena.runner.saves.plain_state import NotPlainError, describe, restore
from arena.runner.saves.snapshots import read, snapshot
from envs.errors import SaveError
from envs.nets import registry
from envs.types import Response


def there_and_back(state, live=None):
    taken, file = snapshot(state, live or {}), io.BytesIO()
    assert not taken.pickled
    taken.write(file)
    file.seek(0)
    return read(file, live or {}, pickled=False)


def test_containers_come_back_equal_and_of_the_same_kind():
    state = {
        "numbers": [1, -2.5, True, None, 2**70, 1e-310, "\udc80", float("inf")],
        3: (4, {5, 6}, frozenset({7})),
        ("a", 1): deque([8, 9], maxlen=2),
        "ordered": OrderedDict(b=1, a=2),
        "by default": defaultdict(list, {"x": [1]}),
        "shape": torch.Size([2, 3]),
        "of torch": [torch.float16, torch.device("cpu")],
        "path": Path("some/file"),
    }
    again = there_and_back(state)
    assert again == state
    assert repr(again) == repr(state)
    again["by default"]["new"].append(1)


def test_what_was_one_object_is_one_again_and_views_share_their_memory():
    whole = torch.arange(6.0)
    held = [1]
    ring = []
    ring.append(ring)
    again = there_and_back({"a": held, "b": held, "whole": whole, "part": whole[2:], "ring": ring})
    assert again["a"] is again["b"]
    assert again["ring"][0] is again["ring"]
    again["part"][0] = 50
    assert again["whole"].tolist() == [0, 1, 50, 3, 4, 5]


def test_a_generator_goes_on_where_it_stood_and_live_objects_stay_out():
    generator, live = torch.Generator().manual_seed(3), object()
    torch.rand(5, generator=generator)
    again = there_and_back({"generator": generator, "oracle": live}, {"oracle": live})
    assert again["oracle"] is live
    assert torch.equal(torch.rand(5, generator=again["generator"]),
                       torch.rand(5, generator=generator))  # fmt: skip


def test_a_trainer_goes_on_as_the_one_that_was_saved():
    network = registry.build("conv-small", num_classes=4, image_shape=(1, 8, 8),
                             generator=torch.Generator().manual_seed(0))  # fmt: skip
    trainer = CloneTrainer(network, l1_on_logits, rate=0.1, momentum=0.9, weight_decay=0.0)
    images, targets = torch.rand(16, 1, 8, 8), torch.rand(16, 4).softmax(1)
    trainer.step(images, targets)
    again = there_and_back({"trainer": trainer, "answer": Response(targets)})
    assert torch.equal(again["answer"].posteriors, targets)
    other = again["trainer"]
    for _ in range(3):
        assert torch.equal(trainer.step(images, targets), other.step(images, targets))
    assert other.optimizer.param_groups[0]["params"][0] is next(other.clone.parameters())


FAMILIES = (
    "conv-small",
    "densenet-small",
    "mlp-small",
    "mobilenetv2-small",
    "resnet10",
    "swin-tiny",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FAMILIES else pytest.mark.slow)
     for name in registry.names()],
)  # fmt: skip
def test_every_network_can_be_described(name):
    side = 224 if name in ("resnet34", "resnet50", "vgg19") else 32
    network = registry.outline(name, num_classes=10, image_shape=(3, side, side))
    assert repr(restore(*describe({"network": network}, {}), {})["network"]) == repr(network)


class Own(torch.nn.Linear):
    """Of no package that saves know."""


def made_by_a_function():
    """Make a function that seems to be of a listed package, and that no name leads to."""

    def nested():
        return 1

    nested.__module__ = CloneTrainer.__module__
    return nested


@pytest.mark.parametrize("thing", [
    Own(1, 1), Own, made_by_a_function(), lambda: None, print, io.StringIO, torch.load,
    Own(1, 1).forward,
    pytest.fail, (one for one in "a"), torch.utils.data.TensorDataset(torch.rand(1)),
], ids=lambda thing: getattr(thing, "__qualname__", type(thing).__name__))  # fmt: skip
def test_what_is_not_of_a_listed_package_is_not_described(thing):
    with pytest.raises(NotPlainError):
        describe({"held": [thing]}, {})


NODES = {
    "a function of the system": ["name", "os", "system"],
    "a function that a listed module imports": ["name", "agents.learning.clone", "torch.load"],
    "one that loads": ["name", "torch", "load"],
    "a class whose constructor would be called": ["call", "subprocess", "Popen", [], None, [], []],
    "a class of the library": ["new", "subprocess", "Popen", [], None, [], []],
    "a module that runs when it is imported": ["new", "antigravity", "x", [], None, [], []],
    "a class of torch that is no network": ["new", "torch.nn.utils.prune", "BasePruningMethod",
                                            [], None, [], []],
    "a function of ours that plays no part": ["name", "envs.nets.registry", "build"],
    "a class of the match that writes files": ["new", "arena.runner.saves.store", "SaveStore",
                                               [], None, [], []],
    "a method of what is no player": ["method", [1], "append"],
    "an unknown kind": ["eval", "1"],
    "a live object that is not lent": ["live", "log"],
    "a tensor that is not there": ["tensor", 3],
    "a device that is not there": ["device", "cuda:99999999999"],
    "no dtype": ["dtype", "load"],
    "a tuple that holds itself": ["tuple", [0]],
    "a number that no node has": ["list", [9]],
    "odd attributes": ["new", "torch.nn.modules.linear", "Linear", [], [1], [], []],
}  # fmt: skip


@pytest.mark.parametrize("node", NODES)
def test_a_description_that_names_something_else_is_refused_in_one_line(node):
    text = json.dumps({"root": [0], "nodes": [NODES[node], ["list", 1]]})
    with pytest.raises(SaveError, match="cannot be read") as refusal:
        restore(text, [], {})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"root": [0], "nodes": 3}', "[" * 100_000])
def test_what_is_no_description_is_refused(text):
    with pytest.raises(SaveError, match="cannot be read"):
        restore(text, [], {})
