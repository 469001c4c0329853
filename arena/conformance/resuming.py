"""What is asked of an attacker that says it can be resumed: the end is the same."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from agents.base import Attacker, Kit
from agents.defenders.static import Static
from arena.conformance.findings import Claim, claim
from arena.conformance.plays import (
    Play,
    Terms,
    WatchedOracle,
    count_images,
    digest_of,
    game_of,
    kit_of,
)
from arena.conformance.tiny_world import TinyWorld
from arena.runner.saves.snapshots import lent, read, snapshot
from arena.runner.stopping import STOP
from envs.errors import BudgetExhausted, SaveError, one_line
from envs.game.extraction_game import ExtractionGame


def check_resuming(make: Callable[[], Attacker], world: TinyWorld, plays: Sequence[Play]) -> Claim:
    """Save games and go on from the last save of each.

    A game is saved at its 1st, 2nd, 4th, 8th... safe point; one that is refused amid the attack at
    every one, so that the last save lies beside the refusal.

    Args:
        make: gives a fresh attacker.
        world: where it plays.
        plays: the same games played through, without saves.
    """
    if not make().resumable:
        return Claim("resumes", True, "has no resume; it starts afresh after a kill")
    points, faults = list[int](), list[str]()
    try:
        for whole in plays:
            saved = _SavedGame(make(), world, whole.terms)
            again = _SavedGame(make(), world, whole.terms)
            saved.play()
            if saved.data:
                points.append(again.load(saved.data, pickled=saved.pickled))
                again.play()
                faults += [f"{whole.terms}: {text}" for text in _faults(whole, saved, again)]
    except SaveError as error:
        return Claim("resumes", False, f"cannot be saved or read back: {error}")
    except BaseException as error:
        if STOP.caused(error):
            raise
        return Claim("resumes", False, one_line(error))
    if not points:
        return Claim("resumes", True, "passes no safe point in so short a game")
    return claim("resumes", faults, f"went on at {' and '.join(map(str, points))} images")


def _faults(whole: Play, saved: "_SavedGame", again: "_SavedGame") -> Iterable[str]:
    if saved.digest != whole.digest:
        yield "a game that is saved ends otherwise; safe points must change nothing"
    if again.digest != whole.digest:
        yield (
            "a resumed game ends otherwise; keep in self all that the loop needs, and call "
            "kit.safe_point() between two steps"
        )


class _SavedGame:
    """One game that can be saved, or gone on with."""

    def __init__(self, attacker: Attacker, world: TinyWorld, terms: Terms) -> None:
        victim = world.victim()
        victim.profile  # noqa: B018 - counted now, because counting runs a copy of the network
        # listened to as in the play it is held against: then the same copy of the network serves
        count_images(victim)
        self.attacker = attacker
        self._game: ExtractionGame = game_of(attacker, victim, world, terms)
        self._oracle = WatchedOracle(self._game, [], refused_from=terms.refused_from)
        self._every = terms.refused_from is not None
        self._kit: Kit = replace(kit_of(world, terms), on_safe_point=self._safe_point)
        self._points, self._resumed = 0, False
        self.data, self.pickled = b"", False

    @property
    def digest(self) -> str:
        """Of queries, answers, clone and inference."""
        return digest_of(self._game, self.attacker)

    def play(self) -> None:
        """Play to the end."""
        try:
            if self._resumed:
                self.attacker.resume(self._oracle, self._kit)
            else:
                self.attacker.attack(self._oracle, self._kit)
        except BudgetExhausted:
            return

    def load(self, data: bytes, *, pickled: bool) -> int:
        """Go to where another game was saved; returns how many images had been asked."""
        state = read(io.BytesIO(data), self._live, pickled=pickled)
        self.attacker = state["attacker"]
        self._kit.generator.set_state(state["generator"])
        self._kit.new_clone.generator.set_state(state["clones"])  # type: ignore[attr-defined]
        self._kit.shared_findings.update(state["shared_findings"])
        self._game.restore(state["game"], Static())
        self._resumed = True
        return self._game.used

    def _safe_point(self) -> None:
        self._points += 1
        if self._resumed or (self._points & (self._points - 1) and not self._every):
            return
        file = io.BytesIO()
        state = {
            "attacker": self.attacker,
            "generator": self._kit.generator.get_state(),
            "clones": self._kit.new_clone.generator.get_state(),  # type: ignore[attr-defined]
            "shared_findings": self._kit.shared_findings,
            "game": self._game.state(),
        }
        taken = snapshot(state, self._live)
        taken.write(file)
        self.data, self.pickled = file.getvalue(), taken.pickled

    @property
    def _live(self) -> dict[str, object]:
        victim = self._game.deployed_defences[0].victim
        return {**lent(self._oracle, self._kit), "victim": victim}
