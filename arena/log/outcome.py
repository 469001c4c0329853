"""Defines what an episode came to, in numbers, and what each of them means.

A new metric of an episode is one more field of `OutcomeRow`, and a migration that adds its column;
everything else follows from the field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from arena.log.metric import Metric, metric, metrics_of

JsonMap = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class OutcomeRow:
    """Hold what an episode came to; None where something was not measured.

    Accuracies, agreements and shares lie in [0, 1]; distortions are L1 distances between served
    and clean posteriors in [0, 2]; compute is multiply-accumulates (MACs) per query.

    Attributes:
        queries_used: images the attacker asked for.
        attack_answered: its images that were answered.
        benign_answered: images of benign users that were answered.
        clone_accuracy: the clone on the held-out test set.
        clone_fidelity: how often the clone agrees with the undefended victim.
        victim_accuracy: the undefended victim on the test set.
        served_accuracy: the served answers of benign traffic against the labels.
        served_agreement: how often a served answer names the undefended victim's class.
        distortion_mean: mean distance on the in-distribution test set.
        distortion_p95: its 95th percentile.
        attack_macs_mean: mean compute of an attacker's query.
        benign_macs_mean: mean compute of a benign query.
        full_macs: compute of the whole network on one image.
        attack_compute_share: attack_macs_mean / full_macs.
        benign_compute_share: benign_macs_mean / full_macs.
        attack_seconds_mean: mean latency of an attacker's query.
        benign_seconds_mean: mean latency of a benign query.
        harden_seconds: what hardening the victim took; 0 where all that is trained came from the
            cache.
        query_digest: digest of all queries, for replay.
        answer_digest: digest of all answers, for replay.
        accounts_used: accounts that the attacker asked from; None where the scenario says nothing
            of accounts.
        attack_price: queries_used x threat.query_price + accounts_used x threat.account_price;
            None likewise.
        clone_metrics: what else a scenario measures of the clone, by the metric's name; None where
            it asks for nothing.
    """

    queries_used: int | None = metric("queries", "images", averaged=False)
    attack_answered: int | None = metric("answers to the attacker", "images", averaged=False)
    benign_answered: int | None = metric("answers to benign users", "images", averaged=False)
    clone_accuracy: float | None = metric(
        "clone accuracy", "share", heading="clone accuracy", short="clone acc. %"
    )
    clone_fidelity: float | None = metric(
        "clone fidelity", "share", heading="clone fidelity", short="fidelity %"
    )
    victim_accuracy: float | None = metric("victim accuracy", "share", heading="victim accuracy")
    served_accuracy: float | None = metric(
        "served accuracy", "share", heading="served accuracy", short="served acc. %"
    )
    served_agreement: float | None = metric("served agreement", "share")
    distortion_mean: float | None = metric("distortion", "l1", heading="distortion (L1)")
    distortion_p95: float | None = metric("distortion, 95th percentile", "l1", averaged=False)
    attack_compute_share: float | None = metric(
        "compute per attack query",
        "share",
        bounds=(0, float("inf")),
        heading="compute per attack query",
        short="attack MACs %",
    )
    benign_compute_share: float | None = metric(
        "compute per benign query",
        "share",
        bounds=(0, float("inf")),
        heading="compute per benign query",
        short="benign MACs %",
    )
    attack_macs_mean: float | None = metric("MACs per attack query", "macs")
    benign_macs_mean: float | None = metric("MACs per benign query", "macs")
    full_macs: int | None = metric("MACs of the whole network", "macs", averaged=False)
    attack_seconds_mean: float | None = metric(
        "time per attack query", "seconds", heading="time per attack query", reproduced=False
    )
    benign_seconds_mean: float | None = metric(
        "time per benign query", "seconds", heading="time per benign query", reproduced=False
    )
    harden_seconds: float | None = metric("hardening", "seconds", averaged=False, reproduced=False)
    query_digest: str | None = metric("digest of the queries", "digest", averaged=False)
    answer_digest: str | None = metric("digest of the answers", "digest", averaged=False)
    accounts_used: int | None = metric("accounts", "count", heading="accounts", short="accounts")
    attack_price: float | None = metric(
        "price of the attack", "price", heading="price of the attack", short="price"
    )
    clone_metrics: JsonMap | None = None


METRICS: Mapping[str, Metric] = metrics_of(OutcomeRow)
"""Every metric of an episode's outcome, by its column's name."""
