"""Who asks in an attacker's place."""

import hashlib
from typing import NamedTuple

from agents.base import Attacker
from arena.scenario import EpisodePlan


class StandIn(NamedTuple):
    """Somebody who asks in the attacker's place: the recorded queries of another episode.

    Attributes:
        attacker: who asks.
        origin: id of the episode whose queries these are.
    """

    attacker: Attacker
    origin: str

    def hash_for(self, plan: EpisodePlan) -> str:
        """Name the what-if: 16 hexadecimal digits that no play has."""
        return hashlib.sha256(f"what-if/{self.origin}/{plan.hash}".encode()).hexdigest()[:16]
