"""Everything an author of attackers, oracle wrappers or defenders imports.

from agents import Attacker, Kit, Oracle
"""

from agents.base import (
    ArchitectureGuess,
    Attacker,
    Defender,
    DefenderKit,
    Kit,
    Note,
    OracleWrapper,
)
from envs.data.images import ImageSet
from envs.errors import (
    ArenaError,
    BudgetExhausted,
    NotGranted,
    PlayerError,
    QueryError,
    Refused,
    ScenarioError,
)
from envs.game.rounds import Countermeasure, OwnVictim, Served, View
from envs.oracle import Oracle
from envs.types import Response, ThreatModel

__all__ = [
    "ArchitectureGuess",
    "ArenaError",
    "Attacker",
    "BudgetExhausted",
    "Countermeasure",
    "Defender",
    "DefenderKit",
    "ImageSet",
    "Kit",
    "NotGranted",
    "Note",
    "Oracle",
    "OracleWrapper",
    "OwnVictim",
    "PlayerError",
    "QueryError",
    "Refused",
    "Response",
    "ScenarioError",
    "Served",
    "ThreatModel",
    "View",
]
