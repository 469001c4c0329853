"""Makes the table of docs/accounts.md that tells how many accounts a clone takes.

    python -m benchmarks.account_curve --keep curve.jsonl [--seeds 0 1 2 3 4]
        [--attack knockoff dfme] [--detector prada seat ...] [--policy one round-robin]

An attacker plays against the bare victim of `detector_table`; what it asks, and how good its clone
was by then, is kept. Its queries are then asked from accounts of 200 queries each, past a detector
that cuts a flagged account off. The images of a refused request go to the next account, so that
the attacker sees the same answers as long as it has accounts. "one" uses one account after the
other, in requests of 5 images; "round-robin" deals image by image to a number of accounts, and the
least of a geometric row that suffices is found by bisection.

Detectors know the owner's images. Where the limit that one sets by itself flags more than 1 % of
300 benign accounts of 200 held-out digits each, it gets the limit that does not. Beside the attack
ask 60 others of that kind, of which the flagged ones are counted. "prada" and "account-clusters"
flagged 5 of 300 of these at limits for 1 %, so that theirs are for 0.3 %.

Every number goes into the file of `--keep` when it is measured, and is not measured again.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from agents.base import Defender, DefenderKit
from agents.defenders.account_clusters import AccountClusters
from agents.defenders.detector import Detector
from agents.defenders.feature_gaussian import FeatureGaussian
from agents.defenders.flagging import LABELS, Calibrated, limit_of
from agents.defenders.owners_traffic import Pool, PoolView
from agents.defenders.prada import Prada
from agents.defenders.seat import Seat
from benchmarks.account_plays import ATTACKS, accuracy, played
from benchmarks.detector_table import mixed, victim
from benchmarks.owner_table import kit_of
from envs.data.sources import load
from envs.errors import Refused
from envs.game.accounts import Accounts
from envs.game.asking import ask_accounts
from envs.game.rounds import Served
from envs.seeding import Streams
from envs.types import AccountPolicy, Response, ThreatModel
from envs.victim.owned import Owned
from envs.victim.victim import Victim

EACH, TOGETHER, BENIGN, ATTACKER = 200, 5, 60, 1000
MOST = 8000  # accounts that are tried
SHARES = (0.5, 0.65, 0.8)  # of the victim's accuracy
RATES = {"prada": 0.003, "account-clusters": 0.003}
CUT: dict[str, Any] = {"cut_off": True}  # Any: a countermeasure as a scenario writes it
DETECTORS: dict[str, Callable[[], Defender]] = {
    "detector": lambda: Detector(ladder=[CUT], most_clients=2 * MOST),
    "detector, window 20": lambda: Detector(
        normality=0.79, window=20, every=20, ladder=[CUT], most_clients=2 * MOST
    ),
    "prada": lambda: Prada(flagged=CUT, most_clients=2 * MOST),
    "seat": lambda: Seat(flagged=CUT, most_clients=2 * MOST),
    "feature-gaussian": lambda: FeatureGaussian(flagged=CUT, most_clients=2 * MOST),
    "account-clusters": lambda: AccountClusters(
        false_alarms=RATES["account-clusters"], flagged=CUT, most_clients=2 * MOST
    ),
}


def benign(owned: Owned, accounts: int, stream: str, seed: int) -> Pool:
    """Return what benign accounts ask, one after the other: held-out digits, none twice."""
    data = load("digits")
    digits = torch.cat([data.parts[name].images() for name in ("benign", "checkpoint", "test")])
    first = 10_000 * seed + (5000 if stream == "limit" else 0)
    asked = [mixed(digits, digits[:0], 0, count=EACH, seed=first + n) for n in range(accounts)]
    return Pool(owned, torch.cat(asked))


def requests(pool: Pool, size: int = 32) -> Iterator[tuple[int, Tensor]]:
    """Give benign accounts' requests, the accounts in turn: account and rows of the pool."""
    for start in range(0, EACH, size):
        for account in range(len(pool.images) // EACH):
            yield account, torch.arange(start, min(start + size, EACH)) + account * EACH


def fitted(name: str, owned: Owned, kit: DefenderKit, seed: int) -> Defender:
    """Return a detector that has begun, and flags at most 1 % of the benign accounts."""
    detector = DETECTORS[name]()
    detector.begin(kit)
    if isinstance(detector, Calibrated) and detector.limit is not None:
        pool, found = benign(owned, 300, "limit", seed), []
        for account in range(300):
            rows = torch.arange(account * EACH, (account + 1) * EACH).split(32)
            found.append(detector.highest(PoolView(pool, part, account, 0) for part in rows))
        detector.limit = max(detector.limit, limit_of(found, RATES.get(name, 0.01)))
    return detector


class Service:
    """Answers an attacker's accounts and benign ones past a detector that cuts accounts off.

    Attributes:
        answered: images of the attacker.
        flagged: benign accounts that were cut off.
    """

    def __init__(self, detector: Defender, attack: Pool, beside: Pool, dealer: Accounts) -> None:
        self._detector, self._attack, self._beside, self._dealer = detector, attack, beside, dealer
        self._labels = {id(pool): pool.features(LABELS) for pool in (attack, beside)}
        self._waiting = list(requests(beside))
        self._due = len(self._waiting)
        self.answered = 0
        self.flagged: set[int] = set()

    def attack(self, rows: Tensor) -> None:
        """Let the attacker ask for images of its pool; Refused where no account is left."""
        ask_accounts(self._ask, self._dealer, rows, remaining=lambda: MOST * EACH, latency=False)

    def _ask(self, rows: Tensor, account: int) -> Response:
        self._dealer.charge(account, len(rows))
        if not self._answers(self._attack, ATTACKER + account, rows):
            self._dealer.close(account)
            raise Refused("cut off", account=account, is_closed=True)
        self.answered += len(rows)
        return Response(self._labels[id(self._attack)][rows])

    def users(self, share: float) -> None:
        """Let benign users ask what is due when this share of the attack has been asked."""
        while self._waiting and self._due - len(self._waiting) < share * self._due:
            account, rows = self._waiting.pop(0)
            if account not in self.flagged and not self._answers(self._beside, account, rows):
                self.flagged.add(account)

    def _answers(self, pool: Pool, client: int, rows: Tensor) -> bool:
        """Show a request to the detector; False where it cuts the account off."""
        view = PoolView(pool, rows, client, self.answered)
        answer = self._detector.act(view)
        if answer.cut_off:
            return False
        exits = torch.zeros(len(rows), dtype=torch.int64)
        self._detector.learn(Served(view, answer, self._labels[id(pool)][rows], exits))
        return True


def asked_from(detector: Defender, attack: Pool, beside: Pool, needed: Sequence[int],
               policy: AccountPolicy, accounts: int) -> tuple[list[int | None], int]:  # fmt: skip
    """Ask an attacker's images from accounts, past a fresh detector that is used up.

    Returns:
        The accounts asked from until each of the ascending numbers of answers was there, None where
        it never was; and the benign accounts that were flagged.
    """
    threat = ThreatModel(10, (1, 8, 8), len(attack.images), accounts=accounts,
                         account_policy=policy, account_budget=EACH)  # fmt: skip
    dealer = Accounts(threat, Streams(0))
    service = Service(detector, attack, beside, dealer)
    found: list[int | None] = []
    for rows in torch.arange(needed[-1]).split(TOGETHER if policy == "one" else 64):
        service.users(float(rows[0]) / needed[-1])
        if len(rows) > dealer.room:
            break
        try:
            service.attack(rows)
        except Refused:
            break
        while len(found) < len(needed) and service.answered >= needed[len(found)]:
            found.append(int((dealer.charged > 0).sum()))
    service.users(1.0)
    return found + [None] * (len(needed) - len(found)), len(service.flagged)


def least(enough: Callable[[int], bool], first: int) -> int | None:
    """Return the least number of a geometric row from `first` on that is enough."""
    row = [first]
    while row[-1] < MOST:
        row.append(min(MOST, math.ceil(1.3 * row[-1])))
    if enough(row[0]):
        return row[0]
    low, high = 0, len(row)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(row[middle]) else (middle, high)
    return row[high] if high < len(row) else None


def measured(served: Victim, name: str, seed: int, given: argparse.Namespace,
             keep: Callable[[dict[str, Any]], None], known: set[str]) -> None:  # fmt: skip
    """Measure what the file has not, for one attack and seed."""
    todo = [(detector, policy) for detector in given.detector for policy in given.policy
            if key_of(name, seed, detector, policy) not in known]  # fmt: skip
    if not todo:
        return
    play, whole = played(served, name, seed), accuracy(served.network)
    needs = [play.needed(share, whole) for share in SHARES]
    plain = {"attack": name, "seed": seed, "needs": needs, "seen": play.seen, "victim": whole}
    reached = [one for one in needs if one is not None]
    owned = Owned(served)
    attack, beside = Pool(owned, torch.cat(play.asked)), benign(owned, BENIGN, "beside", seed)
    kit = kit_of(served, seed)
    begun: dict[str, Defender] = {}
    for detector, policy in todo:
        if detector not in begun:
            begun[detector] = fitted(detector, owned, kit, seed)

        def ask(accounts: int, detector: str = detector,
                policy: AccountPolicy = policy) -> tuple[list[int | None], int]:  # fmt: skip
            fresh = kit.copy_of(begun[detector])
            return asked_from(fresh, attack, beside, reached, policy, accounts)

        found: list[int | None]
        began = time.process_time()
        if policy == "one":
            found, flagged = ask(MOST)
        else:
            first = math.ceil(reached[-1] / EACH)
            count = least(partial(_is_enough, ask), first)
            found, flagged = [*[None] * (len(reached) - 1), count], -1
        keep({**plain, "detector": detector, "policy": policy, "found": found, "flagged": flagged,
              "limit": getattr(begun[detector], "limit", None),
              "seconds": round(time.process_time() - began, 1)})  # fmt: skip


def _is_enough(ask: Callable[[int], tuple[list[int | None], int]], accounts: int) -> bool:
    return ask(accounts)[0][-1] is not None


def key_of(*parts: object) -> str:
    """Name a measurement."""
    return " / ".join(map(str, parts))


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Write what was measured in Markdown: the median over seeds, and the range."""
    heads = [f"{share:.0%}" for share in SHARES]
    yield f"| attack | detector | {' | '.join(heads)} | 80% in turn | benign flagged |"
    yield "| --- " * (4 + len(SHARES)) + "|"
    for attack in dict.fromkeys(row["attack"] for row in rows):
        mine = [row for row in rows if row["attack"] == attack]
        needs = {row["seed"]: row["needs"] for row in mine}
        bare = [[math.ceil(one[n] / EACH) if one[n] else None for one in needs.values()]
                for n in range(len(SHARES))]  # fmt: skip
        yield line(attack, "none", [*map(spread, bare), spread(bare[-1]), "0"])
        for detector in DETECTORS:
            one, turn = (
                [row for row in mine if row["detector"] == detector and row["policy"] == policy]
                for policy in ("one", "round-robin")
            )
            if not one:
                continue
            cells = [spread([at(row["found"], n) for row in one]) for n in range(len(SHARES))]
            flagged = f"{sum(row['flagged'] for row in one)} of {BENIGN * len(one)}"
            yield line(
                attack, detector, [*cells, spread([at(r["found"], -1) for r in turn]), flagged]
            )


def at(found: Sequence[int | None], place: int) -> int | None:
    """Return what was found at a place; None beyond the last."""
    return found[place] if -len(found) <= place < len(found) else None


def line(attack: str, detector: str, cells: Sequence[str]) -> str:
    """Write a row."""
    return f"| {attack} | `{detector}` | {' | '.join(cells)} |"


def spread(values: Sequence[int | None]) -> str:
    """Write the median and the range, "> 8,000" where that many were not enough."""
    if not values:
        return "-"
    ordered = sorted(math.inf if value is None else value for value in values)
    low, middle, high = (f"{v:,.0f}" if v < math.inf else f"> {MOST:,}"
                         for v in (ordered[0], median(ordered), ordered[-1]))  # fmt: skip
    return middle if low == high else f"{middle} ({low} to {high})"


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="How many accounts a clone takes.")
    parser.add_argument("--keep", type=Path, required=True, help="file of what was measured")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--attack", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--detector", nargs="+", choices=list(DETECTORS), default=list(DETECTORS))
    parser.add_argument("--policy", nargs="+", choices=("one", "round-robin"),
                        default=["one", "round-robin"])  # fmt: skip
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = given.keep.read_text("utf-8") if given.keep.exists() else ""
    rows = [json.loads(one) for one in text.splitlines()]

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        with given.keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    served = victim()
    for name in given.attack:
        for seed in given.seeds:
            known = {key_of(*(row[k] for k in ("attack", "seed", "detector", "policy")))
                     for row in rows}  # fmt: skip
            measured(served, name, seed, given, keep, known)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
