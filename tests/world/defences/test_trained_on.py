"""What a defence says it was trained on is what its hardening draws from."""

import pytest
import torch

from arena.registry import players
from envs.training import ood

QUICK = {"surrogate_epochs": 1, "schedule_epochs": 2}
ONE = {"epochs": 1, "thresholds": "published"}
FORTRESS = ("uniform", "smooth", "pixel-shuffle")

CASES = {
    "undefended": ("undefended", {}, ()),
    "randp": ("randp", {}, ()),
    "grad": ("grad", QUICK, ("generator",)),
    "grad-smooth": ("grad", {**QUICK, "surrogate_data": "smooth"}, ("smooth",)),
    "grad-own": ("grad", {**QUICK, "surrogate_data": "own"}, ()),
    "grad-untrained": ("grad", {"surrogate": "untrained"}, ()),
    "p-poison": ("p-poison", {}, ()),
    "p-poison-trained": ("p-poison", {**QUICK, "surrogate": "trained"}, ("generator",)),
    "p-poison-argmin": ("p-poison", {**QUICK, "surrogate": "trained", "oracle": "argmin"}, ()),
    "adaptive-misinformation": ("adaptive-misinformation", {"epochs": 1}, ("generator",)),
    "misinformation-two": (
        "adaptive-misinformation", {"epochs": 1, "ood": ["uniform", "smooth"]},
        ("uniform", "smooth"),
    ),
    "misinformation-own": ("adaptive-misinformation", {"epochs": 1, "detector": "victim"}, ()),
    "reverse-sigmoid": ("reverse-sigmoid", {}, ()),
    "truncation": ("truncation", {"top": 2}, ()),
    "modelguard-w": ("modelguard-w", {}, ()),
    "modelguard-s": ("modelguard-s", {}, ()),
    "meco": ("meco", {"epochs": 1}, ()),
    "misleader": ("misleader", {"epochs": 1}, ()),
    "queen": ("queen", {"shadows": 1, "asked": 1, "map_epochs": 2}, ()),
    "same": ("same", {"epochs": 1, "classifier_epochs": 1, "response": "misinformation"}, ()),
    "timing": ("timing", {}, ()),
    "dnf": ("dnf", ONE, FORTRESS),
    "dnf-weights": ("dnf", {**ONE, "ood": {"uniform": 3.0, "shapes": 1.0}}, ("uniform", "shapes")),
    "plain": ("dnf", {**ONE, "variant": "plain"}, ()),
    "id-only": ("dnf", {**ONE, "variant": "id-only"}, ()),
    "released": ("dnf", {"epochs": 1, "variant": "released"}, ("generator",)),
    "random-exit": ("dnf", {**ONE, "variant": "random-exit"}, FORTRESS),
    "oracle-ood": ("dnf", {**ONE, "variant": "oracle-ood"}, FORTRESS),
    "dnf_plus": (
        "dnf_plus", {"steps": 2},
        ("uniform", "smooth", "pixel-shuffle", "patch-shuffle", "mixup", "principal", "spliced"),
    ),
    "stack": ("stack", {"layers": ["timing", {"use": "dnf", "params": ONE}]}, FORTRESS),
}  # fmt: skip


def test_every_defence_is_here():
    names = {name for name in players.defences.names() if name != "dnf-plus"}
    assert {use for use, _, _ in CASES.values()} == names


@pytest.mark.parametrize(
    "case",
    [pytest.param(one, marks=[pytest.mark.slow] if one == "meco" else []) for one in CASES],
)
def test_hardening_draws_from_the_stated_sources_and_from_no_other(
    digits_world, case, monkeypatch, tmp_path
):
    monkeypatch.setenv("ARENA_CACHE", str(tmp_path))  # what is recalled draws nothing
    drawn = set()
    for name, make in ood.SOURCES.items():
        monkeypatch.setitem(ood.SOURCES, name, _spy(name, make, drawn))
    use, params, expected = CASES[case]
    defence = players.create("defence", use, params)
    assert defence.trained_on == expected
    torch.manual_seed(0)
    defence.harden(digits_world.victim(), digits_world.kit())
    assert drawn == set(expected)


def _spy(name, make, drawn):
    def spied(material):
        draw = make(material)

        def noted(count):
            drawn.add(name)
            return draw(count)

        return noted

    return spied
