"""Keeps of each answer its most likely class alone."""

from dataclasses import replace

from agents.base import Kit, OracleWrapper
from agents.oracle_wrappers.forwarding import Restored
from envs.oracle import Oracle
from envs.types import ThreatModel, harden_labels


class TopLabel(OracleWrapper):
    """Tells an attacker the most likely class of each answer, as hard labels do.

    Perturbed probabilities that keep the label do no harm behind it. `Knockoff` has it built in
    (`answers = "argmax"`); this makes any attacker look at labels alone.

    Source:
        No one paper's: learning from the argmax is the usual check of perturbed answers.
    """

    def wrap(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Return an oracle whose answers are one-hot."""
        return Labels(oracle)


class Labels(Restored):
    """Another oracle's answers as (n, K) one-hot rows; its threat model says hard labels.

    Args:
        oracle: what answers and charges.
    """

    def __init__(self, oracle: Oracle) -> None:
        super().__init__(oracle, harden_labels)

    @property
    def threat(self) -> ThreatModel:
        """What may be asked; an answer shows a label."""
        return replace(super().threat, labels="hard")
