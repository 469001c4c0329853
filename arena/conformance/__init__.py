"""The conformance suite: does a player keep the rules of the game?

Behind `arena check`, and for the tests of a plug-in:

    from arena.conformance import assert_conforms

    def test_my_attacker_conforms():
        assert_conforms(MyAttacker)

Each check plays a few small games on synthetic images, some seconds in all.
"""

from arena.conformance.attackers import check_attacker
from arena.conformance.checks import assert_conforms, check
from arena.conformance.defences import check_defence
from arena.conformance.defenders import check_defender, defender_kit
from arena.conformance.findings import Claim

__all__ = [
    "Claim",
    "assert_conforms",
    "check",
    "check_attacker",
    "check_defence",
    "check_defender",
    "defender_kit",
]
