"""Trains and hardens the victims of a scenario ahead of its episodes."""

from arena.runner.progress import Watcher
from arena.runner.setup import Setup
from arena.scenario import Scenario
from arena.system.devices import pick_device
from envs.errors import ScenarioError
from envs.training.checkpoints import require_writable

DECISIVE = {"seed", "data", "victim", "defender", "latency", "contents"}
"""What of a plan decides which defended victim it needs, besides whether latency is modelled."""


def prepare(scenario: Scenario, *, watcher: Watcher | None = None, device: str = "cpu") -> int:
    """Train and harden every victim of a scenario into the cache; returns how many there are.

    Raises:
        ArenaError: data are missing, a name is unknown, the cache cannot be written, the victim
            runs elsewhere, or the points of a search are not known yet.
    """
    if scenario.search is not None:
        raise ScenarioError(f"which victims {scenario.name} needs follows from what its search "
                            f"finds; play it with `arena run`")  # fmt: skip
    plans = scenario.plans()
    elsewhere = [plan.victim.use for plan in plans if plan.victim.is_remote]
    if elsewhere:
        raise ScenarioError(f"the victim of {scenario.name} runs elsewhere ({elsewhere[0]}) and is "
                            f"not trained here; play it with `arena run`")  # fmt: skip
    require_writable()  # a match goes on without the cache; this would train for nothing
    watcher = watcher or Watcher()
    setup = Setup(pick_device(device), watcher)
    seen: set[tuple[str, str]] = set()
    for plan in plans:
        key = plan.threat.latency, plan.model_dump_json(include=DECISIVE)
        if key not in seen:
            seen.add(key)
            watcher.line(f"preparing {plan.defender.name}, seed {plan.seed}")
            setup.set_up_defender(plan)
    return len(seen)
