"""The players, and the door for those who write new ones.

from agents import Attacker, Kit, Oracle
"""

from agents.base import ArchitectureGuess, Attacker, Defender, Kit
from envs.errors import BudgetExhausted, NotGranted, QueryError
from envs.game.rounds import Countermeasure, Served, View
from envs.oracle import Oracle
from envs.types import Response, ThreatModel

__all__ = [
    "ArchitectureGuess",
    "Attacker",
    "BudgetExhausted",
    "Countermeasure",
    "Defender",
    "Kit",
    "NotGranted",
    "Oracle",
    "QueryError",
    "Response",
    "Served",
    "ThreatModel",
    "View",
]
