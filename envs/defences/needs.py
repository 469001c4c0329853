"""What a defence needs of a victim beyond its answers, and whether a victim has it."""

from typing import Literal

from envs.errors import ScenarioError
from envs.nets.staged import Staged

Need = Literal["exit heads", "stages", "retraining", "another of its kind"]
"""Places for exit heads; stages that run apart; weights that may be trained anew; a network like it
with other weights."""

_NAME_THEM = 'name the layers that they follow: victim.exits = ["layer1", ...]'


def require_needs(needs: frozenset[Need], name: str, network: Staged) -> None:
    """Check that a victim has what a defence needs.

    Args:
        needs: of the defence.
        name: what the message calls the defence.
        network: the victim's, or another of its structure.

    Raises:
        ScenarioError: it lacks something; the line says what to change.
    """
    lacks: dict[Need, tuple[bool, str]] = {
        "exit heads": (
            not network.head_stages,
            f"places for exit heads; {network.undivided or _NAME_THEM}",
        ),
        "stages": (
            bool(network.undivided),
            f"a victim that runs in stages, and this one does not: {network.undivided}",
        ),
        "retraining": (
            network.is_given,
            "to train the victim anew, and this one is taken as it is (victim.weights)",
        ),
        "another of its kind": (
            not network.is_drawable,
            "to build a network of the victim's kind with other weights, which its file does not "
            "allow",
        ),
    }
    for need in sorted(needs):
        lacking, line = lacks[need]
        if lacking:
            raise ScenarioError(f"'{name}' needs {line}")
