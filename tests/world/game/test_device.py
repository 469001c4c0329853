"""Claims about play on an accelerator; they need a CUDA device and skip without one."""

import warnings
from contextlib import contextmanager

import pytest
import torch

from agents.attackers.dfme import DFME
from agents.base import Kit
from agents.defenders.static import Static
from envs.defences.base import Defence, DeployedDefence
from envs.exits.random_rules import ByHistogram
from envs.exits.rules import FinalOnly, Thresholds, log_odds
from envs.game.clocks import Untimed
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.seeding import Streams
from envs.types import ThreatModel
from envs.victim.victim import Victim

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE = (3, 32, 32)


def make_network(heads: bool = True) -> MultiExit:
    generator = torch.Generator().manual_seed(0)
    backbone = build("resnet10", num_classes=10, image_shape=SHAPE, generator=generator)
    return with_heads(backbone, generator=generator) if heads else MultiExit(backbone)


def noise(count: int) -> torch.Tensor:
    return torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1))


def medians(network: MultiExit, images: torch.Tensor) -> Thresholds:
    with torch.no_grad():
        scores = [log_odds(logits) for logits in network.eval().forward_all(images)[:-1]]
    return Thresholds.from_log_odds([float(score.median()) + 1e-3 for score in scores])


@contextmanager
def waits_counted():
    """Collect a warning for every wait of the host for the device."""
    heard: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield heard
        finally:
            torch.cuda.set_sync_debug_mode("default")
    heard.extend(str(w.message) for w in caught if "synchroniz" in str(w.message))


def make_game(victim: Victim, budget: int = 10**6) -> ExtractionGame:
    return ExtractionGame(
        ThreatModel(10, SHAPE, budget),
        [DeployedDefence("none", Defence(), victim)],
        Static(),
        clock=Untimed(),
        streams=Streams(0),
    )


def test_every_execution_gives_the_exits_of_the_cpu():
    images = noise(256)
    rule = medians(make_network(), images)
    expected = Victim(make_network(), rule=rule).answer(images, generator=torch.Generator())
    for options in (
        {"execution": "compacted"},
        {"execution": "masked"},
        {"execution": "auto"},
    ):
        victim = Victim(make_network().cuda(), rule=rule, **options)
        for _ in range(10):
            answer = victim.answer(images.cuda(), generator=torch.Generator("cuda"))
        same = answer.exits.cpu() == expected.exits
        # the arbiter's float32 differs from the CPU's in the last digits
        assert same.float().mean() > 0.99
        torch.testing.assert_close(
            answer.posteriors.cpu()[same], expected.posteriors[same], rtol=0, atol=5e-3
        )


def test_executions_on_the_device_agree_on_every_exit():
    images = noise(256).cuda()
    network = make_network()
    rule = medians(network, images.cpu())
    ways = [
        Victim(make_network().cuda(), rule=rule, execution=name) for name in ("compacted", "masked")
    ]
    one, other = (victim.answer(images, generator=torch.Generator("cuda")) for victim in ways)
    assert torch.equal(one.exits, other.exits)


@pytest.mark.parametrize("rule", [FinalOnly(), None], ids=["no-exit", "one-exit-network"])
def test_a_query_without_early_exit_never_waits_for_the_device(rule):
    network = make_network(heads=rule is not None).cuda()
    game = make_game(Victim(network, rule=rule))
    images = noise(64).cuda()
    oracle = GameOracle(game)
    for _ in range(3):
        oracle.query(images)
    with waits_counted() as waits:
        for _ in range(5):
            oracle.query(images)
    assert waits == []


def test_a_masked_draw_never_waits_for_the_device():
    victim = Victim(make_network().cuda(), rule=ByHistogram([1] * 5), execution="masked")
    oracle = GameOracle(make_game(victim))
    images = noise(64).cuda()
    for _ in range(3):
        oracle.query(images)
    with waits_counted() as waits:
        oracle.query(images)
    assert waits == []


def test_early_exit_waits_once_an_exit_at_most_but_for_ties():
    images = noise(64).cuda()
    rule = medians(make_network(), images.cpu())
    torch.backends.cudnn.allow_tf32 = False  # the width of a tie is then 1e-4 nats
    try:
        victim = Victim(make_network().cuda(), rule=rule, execution="compacted")
        oracle = GameOracle(make_game(victim))
        for _ in range(3):
            oracle.query(images)
        with waits_counted() as waits:
            oracle.query(images)
    finally:
        torch.backends.cudnn.allow_tf32 = True
    assert len(waits) <= 4


def test_an_iteration_of_dfme_never_waits_for_the_device():
    device = torch.device("cuda")
    oracle = GameOracle(make_game(Victim(make_network(heads=False).cuda())))
    kit = Kit(
        device=device,
        generator=torch.Generator(device).manual_seed(0),
        new_clone=lambda: make_network(heads=False).backbone.cuda(),
    )
    attacker = DFME(batch=16)
    attacker.prepare(oracle, kit)

    def iteration() -> None:
        attacker.generator_step(oracle, kit)
        attacker.clone_step(oracle, kit, 16)

    for _ in range(2):
        iteration()
    with waits_counted() as waits:
        iteration()
    assert waits == []


def test_the_device_counts_what_the_cpu_counts():
    images = noise(40)
    rule = medians(make_network(), images)
    tallies = []
    for device in ("cpu", "cuda"):
        game = make_game(Victim(make_network().to(device), rule=rule))
        for part in images.split(9):
            game.play(part.to(device))
        tallies.append(game.tally())
    assert tallies[0].used == tallies[1].used == 40
    assert tallies[0].query_digest == tallies[1].query_digest
