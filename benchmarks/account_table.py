"""Makes the table of docs/accounts.md: how many of an attacker's accounts a drift test flags.

    python -m benchmarks.account_table [--seeds 0 1 2 3 4] [--attack dfme|knockoff]

An attacker asks 6,000 images of the bare victim of `detector_table`, so that nothing it asks
depends on who asks. Its queries are then dealt to accounts by each policy, and every account goes
through a test for each window, every 20 distances. The limit of a window is the coefficient that
1 % of benign accounts fall below, which ask 200 turned and shifted digits each, all different.
"default" is the detector as it ships. A minute and a half of one core.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from agents.attackers.dfme import DFME
from agents.attackers.knockoff import Knockoff
from agents.base import Attacker
from agents.defenders.query_drift import DriftTest
from benchmarks.account_plays import attack_bare
from benchmarks.detector_table import ATTACK_QUERIES, NORMALITY, moved, victim
from envs.data.sources import load
from envs.game.accounts import Accounts
from envs.game.rounds import Round
from envs.seeding import Streams
from envs.types import AccountPolicy, ThreatModel
from envs.victim.victim import Victim

WINDOWS = (20, 50, 100)  # a benign account of 200 images has fewer than 200 distances
EVERY, BENIGN, EACH = 20, 300, 200
SPREADS: tuple[tuple[int, AccountPolicy], ...] = (
    (1, "one"),
    (5, "round-robin"),
    (5, "blocks"),
    (5, "by-similarity"),
    (30, "round-robin"),
    (30, "blocks"),
    (30, "by-similarity"),
)


class Asked(NamedTuple):
    """Images of one request, and the labels that were served."""

    images: Tensor
    labels: Tensor


class Requests:
    """Keeps every request of a game."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def on_round(self, round: Round) -> None:
        """Keep the attacker's request."""
        attack = round.attack
        self.asked.append(Asked(attack.images.clone(), attack.posteriors.argmax(1)))


def requests_of(served: Victim, attacker: Attacker, seed: int) -> list[Asked]:
    """Let an attacker play against the bare victim; returns what it asked."""
    kept = Requests()
    attack_bare(served, attacker, kept, budget=ATTACK_QUERIES, seed=seed)
    return kept.asked


def dealt(asked: list[Asked], accounts: int, policy: AccountPolicy, seed: int) -> list[list[Asked]]:
    """Deal requests to accounts; returns those of each."""
    threat = ThreatModel(10, (1, 8, 8), ATTACK_QUERIES, accounts=accounts, account_policy=policy)
    dealer = Accounts(threat, Streams(seed))
    of_account: list[list[Asked]] = [[] for _ in range(accounts)]
    for images, labels in asked:
        for account, rows in dealer.deal(images):
            chosen = slice(None) if rows is None else rows
            of_account[account].append(Asked(images[chosen], labels[chosen]))
            dealer.charge(account, len(of_account[account][-1].images))
    return of_account


def lowest(requests: list[Asked], window: int, every: int = EVERY) -> float:
    """Return the lowest coefficient that an account's tests find; 1 without a test."""
    test = DriftTest(normality=0.0, band=None, window=window, every=every, memory=600)
    found = [one.normality for part in requests for one in test.add(*part)]
    return min(found, default=1.0)


def benign_accounts(served: Victim) -> Iterator[list[Asked]]:
    """Give what benign accounts ask."""
    digits = torch.cat([one.images() for one in load("digits").parts.values()])
    images = torch.cat(list(moved(digits, BENIGN * EACH)))
    for part in images.split(EACH):
        yield [Asked(part, served.posteriors(part).argmax(1))]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="The table of docs/accounts.md.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--attack", choices=("dfme", "knockoff"), default="dfme")
    given = parser.parse_args()
    torch.set_num_threads(1)
    served = victim()
    benign = list(benign_accounts(served))
    limits = {}
    for window in WINDOWS:
        values = torch.tensor([lowest(account, window) for account in benign])
        limits[window] = float(values.quantile(0.01))
    print("limits:", {window: round(limit, 3) for window, limit in limits.items()})
    attackers: dict[str, Callable[[], Attacker]] = {
        "dfme": partial(DFME, batch=128, clone_rate=0.1, generator_rate=1e-4),
        "knockoff": partial(Knockoff, request=64, epochs=1),
    }
    make = attackers[given.attack]
    plays = {seed: requests_of(served, make(), seed) for seed in given.seeds}
    print(f"| accounts | policy | default | {' | '.join(f'window {w}' for w in WINDOWS)} |")
    print("| --- " * (3 + len(WINDOWS)) + "|")
    for accounts, policy in SPREADS:
        caught = dict.fromkeys(("default", *WINDOWS), 0)
        for seed, asked in plays.items():
            for requests in dealt(asked, accounts, policy, seed):
                for window in WINDOWS:
                    caught[window] += lowest(requests, window) < limits[window]
                caught["default"] += lowest(requests, 200, 100) < NORMALITY
        total = accounts * len(plays)
        cells = [f"{count} of {total}" for count in caught.values()]
        print(f"| {accounts} | `{policy}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
