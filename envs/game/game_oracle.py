"""The in-process oracle: what an attacker in this process holds of a game."""

from torch import Tensor

from envs.game.extraction_game import ExtractionGame
from envs.types import Response, ThreatModel


class GameOracle:
    """Passes an attacker's queries to a game.

    Its public attributes lead to the threat model and the remaining budget, never to the game.
    """

    __slots__ = ("__game",)

    def __init__(self, game: ExtractionGame) -> None:
        self.__game = game

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        return self.__game.threat

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        return self.__game.remaining

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for answers; see `envs.oracle.Oracle.query`."""
        return self.__game.play(images, account)
