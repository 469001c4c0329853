"""What oracle, game and log cost beside the forward passes they stand around."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from agents.attackers.noise import Noise
from agents.defenders.static import Static
from arena.bench.subjects import CLASSES, SHAPE, Shape, image_set, images, plain
from arena.bench.timing import Line, interleave, ratios, spread
from arena.evaluation.referee import Referee
from arena.log.rows import EpisodeRecord, RunRecord
from arena.log.store import Log
from arena.recording.tape import Tape
from arena.runner.progress import Watcher
from arena.runner.recorder import Recorder
from envs.defences.base import Defence, DeployedDefence
from envs.game.clocks import Untimed
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.oracle import Oracle
from envs.seeding import Streams
from envs.types import Labels, ThreatModel
from envs.victim.victim import Victim, VictimAnswer

GROUP = "overhead"
CALL_TARGET = 50.0
SHARE_TARGET = 0.02


class NullVictim(Victim):
    """Answers 1 or `most` images at once and computes nothing."""

    def __init__(self, most: int) -> None:
        super().__init__(plain("mlp-small"))
        self._answers = {
            count: VictimAnswer(
                torch.full((count, CLASSES), 1 / CLASSES), torch.zeros(count, dtype=torch.int64)
            )
            for count in (1, most)
        }

    def answer(
        self, images: Tensor, *, generator: torch.Generator, ood: bool = False
    ) -> VictimAnswer:
        """Return the same answer to everything."""
        return self._answers[images.shape[0]]


def measure(
    *, rounds: int = 7, calls: int = 200, batch: int = 256, width: float = 1.0
) -> list[Line]:
    """Measure calls with a victim that answers at once, and around a ResNet18-8x.

    Args:
        rounds: samples of each.
        calls: calls of one sample with the null victim.
        batch: images in a large request.
        width: factor on the channels of the ResNet18-8x.
    """
    one, many = images(1), images(batch)
    null = NullVictim(batch)
    number = torch.zeros(1)
    with new_oracle(null, 10**9) as oracle:
        calls_of = {"call": lambda: oracle.query(one), "addition": lambda: number + number}
        short = interleave(calls_of, rounds=rounds, repeats=calls)
        long = interleave({"many": lambda: oracle.query(many)}, rounds=rounds, repeats=20)["many"]
    victim = Victim(plain("resnet18-8x", width))
    unused = torch.Generator()
    with new_oracle(victim, 10**9) as oracle:
        runs = {
            "bare": lambda: victim.answer(many, generator=unused),
            "played": lambda: oracle.query(many),
        }
        around = interleave(runs, rounds=max(3, rounds // 2))
    call, large, bare = spread(short["call"]), spread(long), spread(around["bare"])
    addition = spread(short["addition"])
    share = large.median / bare.median
    played = ratios(around["played"], around["bare"])
    return [
        Line(GROUP, "a call with a null victim, 1 image", call.median * 1e6, "us", call.low * 1e6,
             call.high * 1e6, target=CALL_TARGET, at_least=False,
             note=f"torch adds two numbers in {addition.median * 1e6:.2g} us here"),
        Line(GROUP, f"a call with a null victim, {batch} images of 3x32x32", large.median * 1e6,
             "us", large.low * 1e6, large.high * 1e6,
             note="copies every value, and reads it twice: range check and digest"),
        Line(GROUP, f"that call as a share of a ResNet18-8x forward pass, batch {batch}", share,
             "x", target=SHARE_TARGET, at_least=False),
        Line(GROUP, f"oracle + game + log around a ResNet18-8x, batch {batch}, to the bare pass",
             played.median, "x", played.low, played.high, note="two long times compared"),
    ]  # fmt: skip


@contextmanager
def new_oracle(
    victim: Victim, budget: int, *, labels: Labels = "soft", shape: Shape = SHAPE
) -> Iterator[Oracle]:
    """Set up a whole game, recorder and log included, and give its oracle."""
    threat = ThreatModel(CLASSES, shape, budget, labels)
    test_set = image_set(8, shape)
    streams = Streams(0)
    deployed_defences = [DeployedDefence("none", Defence(), victim)]
    game = ExtractionGame(threat, deployed_defences, Static(), clock=Untimed(), streams=streams)
    with tempfile.TemporaryDirectory(prefix="arena-bench-") as folder:
        where = str(Path(folder) / "bench.db")
        with Log.open(where) as log:
            run = log.begin_run(RunRecord(command="arena bench", scenario_name="bench"))
            writer = log.begin_episode(run, _record())
            tape = Tape(log.where, writer.id, queries=False)
            recorder = Recorder(
                game,
                Noise(),
                Referee(test_set, test_set, victim),
                writer,
                checkpoints=10,
                title="bench",
                watcher=Watcher(),
                tape=tape,
            )
            game.add_observers(tape, recorder)
            yield GameOracle(game)
            writer.finish("cancelled", None)


def _record() -> EpisodeRecord:
    return EpisodeRecord(
        scenario_name="bench",
        plan_hash="0" * 16,
        plan={},
        seed=0,
        attacker="noise",
        attacker_params={},
        defender="none",
        defender_params={},
        victim="null",
        clone="none",
        data="noise",
        budget=10**9,
        versions={},
        device="cpu",
    )
