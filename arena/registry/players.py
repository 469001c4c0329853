"""Players by name: attackers, oracle wrappers, defenders and defences; and metrics of clones."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from arena.registry.catalog import Catalog, Kind, Named
from arena.registry.messages import Path
from envs.errors import ScenarioError
from envs.loading import imports as plugins

if TYPE_CHECKING:  # so that listing names loads no torch
    from agents.base import Attacker, OracleWrapper

attackers = Catalog(
    "attacker",
    "agents.base:Attacker",
    {
        "noise": "agents.attackers.noise:Noise",
        "random-generator": "agents.attackers.random_generator:RandomGenerator",
        "dfme": "agents.attackers.dfme:DFME",
        "knockoff": "agents.attackers.knockoff:Knockoff",
        "active-thief": "agents.attackers.active_thief:ActiveThief",
        "s4l": "agents.attackers.s4l:S4L",
        "e3": "agents.attackers.e3:E3",
        "jbda": "agents.attackers.jbda:JBDA",
        "maze": "agents.attackers.maze:MAZE",
        "dfms-hl": "agents.attackers.dfms_hl:DFMSHL",
        "disguide": "agents.attackers.disguide:DisGUIDE",
        "dual-students": "agents.attackers.dual_students:DualStudents",
        "argmax": "agents.attackers.argmax:Argmax",
        "confidence-filter": "agents.attackers.confidence_filter:ConfidenceFilter",
        "latency-filter": "agents.attackers.latency_filter:LatencyFilter",
        "averaging": "agents.attackers.wrapped:Averaging",
        "recovery": "agents.attackers.wrapped:Recovery",
        "inversion": "agents.attackers.wrapped:Inversion",
        "relabelled": "agents.attackers.relabelling:Relabelled",
        "late-knockoff": "agents.attackers.late_knockoff:LateKnockoff",
        "guard-surrogate": "agents.attackers.guard_surrogate:GuardSurrogate",
        "rule-finder": "agents.attackers.rule_finder:RuleFinder",
        "decoy-filter": "agents.attackers.decoy_filter:DecoyFilter",
        "strategy-thief": "agents.attackers.strategy_thief:StrategyThief",
        "slowdown": "agents.attackers.slowdown:Slowdown",
        "repeats": "agents.attackers.repeats:Repeats",
        "campaign": "agents.attackers.campaign:Campaign",
        "exit-timing": "agents.attackers.exit_timing:ExitTiming",
    },
)

wrappers = Catalog(
    "wrapper",
    "agents.base:OracleWrapper",
    {
        "averaging": "agents.oracle_wrappers.averaging:Averaging",
        "recovery": "agents.oracle_wrappers.recovery:Recovery",
        "d-dae": "agents.oracle_wrappers.d_dae:DDAE",
        "inversion": "agents.oracle_wrappers.inversion:Inversion",
        "top-label": "agents.oracle_wrappers.top_label:TopLabel",
    },
)

defenders = Catalog(
    "defender",
    "agents.base:Defender",
    {
        "static": "agents.defenders.static:Static",
        "schedule": "agents.defenders.schedule:Schedule",
        "detector": "agents.defenders.detector:Detector",
        "bandit": "agents.defenders.bandit:Bandit",
        "prada": "agents.defenders.prada:Prada",
        "seat": "agents.defenders.seat:Seat",
        "feature-gaussian": "agents.defenders.feature_gaussian:FeatureGaussian",
        "account-clusters": "agents.defenders.account_clusters:AccountClusters",
    },
)

defences = Catalog(
    "defence",
    "envs.defences.base:Defence",
    {
        "undefended": "envs.defences.base:Defence",
        "dnf": "envs.defences.dnf:DNF",
        "dnf_plus": "envs.defences.dnf_plus:DNFPlus",
        "randp": "envs.defences.randp:RandP",
        "p-poison": "envs.defences.prediction_poisoning:PredictionPoisoning",
        "grad": "envs.defences.gradient_redirection:GradientRedirection",
        "meco": "envs.defences.meco:MeCo",
        "reverse-sigmoid": "envs.defences.reverse_sigmoid:ReverseSigmoid",
        "adaptive-misinformation": "envs.defences.adaptive_misinformation:AdaptiveMisinformation",
        "truncation": "envs.defences.truncation:Truncation",
        "modelguard-w": "envs.defences.modelguard:ModelGuardW",
        "modelguard-s": "envs.defences.modelguard:ModelGuardS",
        "queen": "envs.defences.queen:Queen",
        "misleader": "envs.defences.misleader:Misleader",
        "same": "envs.defences.same:Same",
        "timing": "envs.defences.timing:Timing",
        "stack": "envs.defences.stack:Stack",
    },
)

metrics = Catalog(
    "metric",
    "arena.evaluation.clone_metric:CloneMetric",
    {
        "adversarial-transfer": "arena.evaluation.adversarial_transfer:AdversarialTransfer",
    },
)

_ALL: Mapping[Kind, Catalog] = {
    "attacker": attackers,
    "defender": defenders,
    "defence": defences,
}


def of(kind: Kind) -> Catalog:
    """Return the catalog of one kind of player."""
    return _ALL[kind]


def find_in_file(use: str) -> type:
    """Return the class behind path/to/file.py:Class, whichever kind of player it is.

    Raises:
        ScenarioError: no such file or class, its import fails, or it is no player.
    """
    found = plugins.from_file(use)
    for catalog in _ALL.values():
        base = plugins.from_target(catalog.base)
        if isinstance(found, type) and isinstance(base, type) and issubclass(found, base):
            return catalog.find(use)
    raise ScenarioError(f"{use}: expected an attacker, a defender or a defence; subclass one of "
                        f"{', '.join(catalog.base for catalog in _ALL.values())}")  # fmt: skip


def create(kind: Kind, use: str, params: Mapping[str, object] | None = None) -> object:
    """Build an attacker, a defender or a defence; see `Catalog.create`."""
    return of(kind).create(use, params)


def create_attacker(spec: Named, behind: Sequence[Named], *, prefix: Path = ()) -> "Attacker":
    """Build an attacker behind oracle wrappers, the first of which stands next to the game.

    Args:
        spec: the attacker.
        behind: the wrappers.
        prefix: path of the attacker's table in the file, for the message.

    Raises:
        UnknownName, ScenarioError: see `Catalog.create`.
    """
    from agents.attackers.wrapped import Wrapped

    built = attackers.check(spec.use, spec.params, (*prefix, "params"))
    attacker = cast("Attacker", built)
    fronts = [
        cast("OracleWrapper", wrappers.inside(one, (*prefix, "wrappers", number)))
        for number, one in enumerate(behind)
    ]
    return Wrapped(attacker, fronts) if fronts else attacker


def learns_between_episodes(use: str) -> bool:
    """Tell whether a defender takes what it learnt from one episode to the next."""
    return bool(getattr(defenders.find(use), "learns_between_episodes", False))
