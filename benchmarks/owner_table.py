"""Makes the table of docs/accounts.md that holds detectors of owners side by side at equal rates.

    python -m benchmarks.owner_table [--seeds 0 1 2] [--attack dfme knockoff] [--odd 0 0.05 0.25]

An attacker asks 6,000 images of the bare victim of `detector_table`; nothing it asks depends on who
asks. Its queries come from 30 accounts by each policy, and beside them 30 benign accounts ask 200
different held-out digits each, of which a share are drawn shapes. Every detector sees the same
requests of both kinds, one after the other. Its limit is the one that flags at most 1 % of the
benign accounts which it draws from the validation digits; nothing else is told to it. Counted are
the accounts that are flagged at the end.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from agents.attackers.dfme import DFME
from agents.attackers.knockoff import Knockoff
from agents.base import Attacker, DefenderKit
from agents.defenders.account_clusters import AccountClusters
from agents.defenders.feature_gaussian import FeatureGaussian
from agents.defenders.flagging import Flagging
from agents.defenders.owners_traffic import Pool, PoolView
from agents.defenders.prada import Prada
from agents.defenders.seat import Seat
from benchmarks.account_table import SPREADS, requests_of
from benchmarks.detector_table import CPU, mixed, victim
from envs.data.sources import load, load_pool
from envs.game.accounts import Accounts
from envs.seeding import Streams
from envs.types import AccountPolicy, ThreatModel
from envs.victim.owned import Owned
from envs.victim.victim import Victim

BENIGN, EACH, REQUEST, ATTACKER = 30, 200, 32, 1000
MAKE = {"prada": Prada, "seat": Seat, "feature-gaussian": FeatureGaussian,
        "account-clusters": AccountClusters}  # fmt: skip


class Request(NamedTuple):
    """Who asks for which images of a pool."""

    client: int
    pool: Pool
    rows: Tensor


def kit_of(served: Victim, seed: int) -> DefenderKit:
    """Lend what the owner of the victim has."""
    digits = load("digits")
    return DefenderKit(("undefended",), Streams(seed).torch("defender"), Owned(served),
                       digits.train, digits.validation)  # fmt: skip


def attack_requests(pool: Pool, sizes: Sequence[int], policy: AccountPolicy, seed: int,
                    accounts: int) -> Iterator[Request]:  # fmt: skip
    """Deal an attacker's queries to its accounts, in requests of their own sizes."""
    threat = ThreatModel(10, (1, 8, 8), sum(sizes), accounts=accounts, account_policy=policy)
    dealer = Accounts(threat, Streams(seed))
    for rows in torch.arange(sum(sizes)).split(list(sizes)):
        for account, chosen in dealer.deal(pool.images[rows]):
            mine = rows if chosen is None else rows[chosen]
            dealer.charge(account, len(mine))
            yield Request(ATTACKER + account, pool, mine)


def benign_requests(owned: Owned, share: float, seed: int) -> Iterator[Request]:
    """Let each benign account ask its images in requests, the accounts in turn."""
    data = load("digits")
    digits = torch.cat([data.parts[name].images() for name in ("benign", "checkpoint", "test")])
    odd = load_pool("shapes", image_shape=(1, 8, 8), count=2000,
                    generator=Streams(seed).torch("odd")).images()  # fmt: skip
    asked = [mixed(digits, odd, share, count=EACH, seed=1000 * seed + n) for n in range(BENIGN)]
    pool = Pool(owned, torch.cat(asked))
    for start in range(0, EACH, REQUEST):
        for client in range(BENIGN):
            rows = torch.arange(start, min(start + REQUEST, EACH)) + client * EACH
            yield Request(client, pool, rows)


def interleaved(attack: Sequence[Request], benign: Sequence[Request]) -> Iterator[Request]:
    """Bring the requests of both kinds into one order, evenly."""
    places = [(n / len(attack), 0, request) for n, request in enumerate(attack)]
    places += [(n / len(benign), 1, request) for n, request in enumerate(benign)]
    for _, _, request in sorted(places, key=lambda one: one[:2]):
        yield request


def flagged(detector: Flagging, requests: Iterator[Request]) -> tuple[int, int]:
    """Show a detector all requests; returns flagged accounts of the attacker, and benign ones."""
    answered = 0
    for request in requests:
        detector.act(PoolView(request.pool, request.rows, request.client, answered))
        answered += len(request.rows)
    caught = sum(client >= ATTACKER for client in detector.flags)
    return caught, len(detector.flags) - caught


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Detectors of owners, at equal false alarms.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--attack", nargs="+", choices=("dfme", "knockoff"),
                        default=["dfme", "knockoff"])  # fmt: skip
    policies = [f"{accounts} {policy}" for accounts, policy in SPREADS]
    parser.add_argument("--accounts", nargs="+", choices=policies, default=["1 one", *policies[4:]])
    parser.add_argument("--odd", type=float, nargs="+", default=[0.0, 0.05, 0.25])
    given = parser.parse_args()
    torch.set_num_threads(1)
    served = victim()
    owned = Owned(served)
    attackers: dict[str, Callable[[], Attacker]] = {
        "dfme": partial(DFME, batch=128, clone_rate=0.1, generator_rate=1e-4),
        "knockoff": partial(Knockoff, request=64, epochs=1),
    }
    fitted: dict[tuple[str, int], tuple[Flagging, DefenderKit]] = {}
    for name, make in MAKE.items():
        began = time.process_time()
        for seed in given.seeds:
            kit, detector = kit_of(served, seed), make()
            detector.begin(kit)
            fitted[name, seed] = detector, kit
        limits = [fitted[name, seed][0].limit for seed in given.seeds]  # type: ignore[attr-defined]
        taken = (time.process_time() - began) / len(given.seeds)
        print(f"{name}: limits {limits}, begin takes {taken:.1f} s of CPU", flush=True)
    plays = {}
    for name in given.attack:
        for seed in given.seeds:
            asked = requests_of(served, attackers[name](), seed)
            images = torch.cat([one.images for one in asked]).to(CPU)
            plays[name, seed] = Pool(owned, images), [len(one.images) for one in asked]
    benign = {(share, seed): list(benign_requests(owned, share, seed))
              for share in given.odd for seed in given.seeds}  # fmt: skip
    print("| attack | accounts | policy | odd images | " + " | ".join(MAKE) + " |")
    print("| --- " * (4 + len(MAKE)) + "|")
    for name in given.attack:
        for accounts, policy in SPREADS:
            if f"{accounts} {policy}" not in given.accounts:
                continue
            for share in given.odd:
                cells = []
                for kind in MAKE:
                    caught = wrong = 0
                    for seed in given.seeds:
                        detector, kit = fitted[kind, seed]
                        pool, sizes = plays[name, seed]
                        attack = list(attack_requests(pool, sizes, policy, seed, accounts))
                        both = interleaved(attack, benign[share, seed])
                        found = flagged(kit.copy_of(detector), both)
                        caught, wrong = caught + found[0], wrong + found[1]
                    total, users = accounts * len(given.seeds), BENIGN * len(given.seeds)
                    cells.append(f"{caught} of {total}; {wrong} of {users}")
                print(f"| {name} | {accounts} | `{policy}` | {share:.0%} | {' | '.join(cells)} |",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
