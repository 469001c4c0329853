"""The page on one's own model is executed as it stands, on a network and images made here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.store import Log
from envs.data.sources import load

PAGE = (Path(__file__).parents[3] / "docs" / "own_model.md").read_text(encoding="utf-8")
SHADES = {"dark": 40, "bright": 200, "middle": 120}


def block(language):
    """Return the first code block of a language."""
    return PAGE.split(f"```{language}\n")[1].split("```")[0]


def draw(folder, shade, count, seed):
    """Write pictures of about one shade, in the size of photographs."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.integers(shade - 30, shade + 30, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """What the reader of the page has: a trained model, photos, and what a thief scraped."""
    folder = tmp_path_factory.mktemp("desk")
    for number, (label, shade) in enumerate(SHADES.items()):
        draw(folder / "photos" / label, shade, 30, number)
    draw(folder / "scraped", 128, 20, 9)
    splits = load("folder", root=folder / "photos", size=16)
    torch.save(trained(splits).state_dict(), folder / "model.pt")
    (folder / "own.toml").write_text(block("toml"))
    return folder


def trained(splits):
    """Train torchvision's network as its owner would, without anything of the arena."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.resnet18(num_classes=len(SHADES))
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        images, labels = (splits.train.images() - 0.5) / 0.25, splits.train.labels
        for _ in range(3):
            for batch in torch.randperm(len(labels)).split(32):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
                optimiser.step()
        for layer in network.modules():  # a few batches leave running statistics to chance
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        with torch.no_grad():
            network(images)
    return network.eval()


KNOCKOFF = '{ use = "knockoff", params = { epochs = 1, budgets = [32, 64] } }'
QUICK = [
    "data.params.size=16",
    "threat.budget=64",
    "checkpoints=1",
    "clone.use=conv-small",
    f"attackers=[{KNOCKOFF}]",
    "defenders.1.params.epochs=1",
]
AS_IT_STANDS = ["data.params.size=16", "threat.budget=400"]


def test_a_report_takes_fifteen_lines_with_the_installation():
    lines = [line for name in ("toml", "sh") for line in block(name).splitlines() if line]
    assert len(lines) + 1 <= 15


@pytest.mark.parametrize(
    ("attackers", "settings"),
    [
        pytest.param(("knockoff",), QUICK, id="quick"),
        pytest.param(
            ("random-generator", "dfme", "knockoff"),
            AS_IT_STANDS,
            id="as it stands",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_page_leads_from_a_model_and_a_folder_to_a_report(
    desk, monkeypatch, tmp_path, attackers, settings
):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("ARENA_LOG", str(tmp_path / "own.db"))
    small = ["--no-figure"] + [word for setting in settings for word in ("--set", setting)]
    commands = [line.split() for line in block("sh").splitlines()]
    assert [words[1] for words in commands] == ["scenarios", "run", "report"]
    for arena, *words in commands:
        assert arena == "arena"
        words = [str(tmp_path / word) if word in ("own.db", "own.html") else word for word in words]
        told = CliRunner().invoke(app, [*words, *(small if words[0] == "run" else [])])
        assert told.exit_code == 0, told.output
    with Log.open(tmp_path / "own.db") as log:
        rows = list(log.episodes())
    pairs = {(attacker, defender) for attacker in attackers for defender in ("undefended", "dnf")}
    assert {(row.attacker, row.defender) for row in rows} == pairs
    assert {row.status for row in rows} == {"success"}
    assert min(row.victim_accuracy for row in rows) > 0.9  # it is served with its own weights
    assert b"knockoff" in (tmp_path / "own.html").read_bytes()


def test_the_readers_own_lines_are_few():
    lines = [line for line in block("toml").splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith("[")]) <= 15


def test_every_name_of_the_page_is_one_of_the_arena():
    from arena.registry import players
    from envs.data import sources

    for name in ("meco", "p-poison", "grad", "adaptive-misinformation", "dnf_plus", "dnf"):
        assert f"`{name}`" in PAGE
        players.defences.find(name)
    for name in ("folder", "arrays", "hf-dataset"):
        assert f'`"{name}"`' in PAGE
        assert name in sources.names()
