"""Takes the metrics that a scenario asks of a final clone, and writes down what fails."""

from collections.abc import Callable, Sequence
from typing import cast

from arena.evaluation.clone_metric import CloneMetric, Handed, measured
from arena.log.writer import EpisodeWriter
from arena.registry import players
from arena.runner.stopping import STOP
from arena.scenario.plan import MetricPlan
from envs.errors import one_line


def clone_metrics(
    metrics: Sequence[MetricPlan],
    handed: Callable[[MetricPlan], Handed],
    writer: EpisodeWriter,
    *,
    used: int,
    tell: Callable[[str], None],
) -> dict[str, float]:
    """Take each metric; one that fails is an event and a line, and has no value.

    Args:
        metrics: of the plan.
        handed: what a metric gets.
        writer: of the episode's events.
        used: queries charged so far.
        tell: takes a line for people.
    """
    values = {}
    for plan in metrics:
        try:
            metric = cast(CloneMetric, players.metrics.create(plan.use, plan.params))
            value = measured(metric, handed(plan))
            reason = "cannot be known of this clone and this victim"
        except BaseException as fault:  # of others, sys.exit among them: it costs its value alone
            if STOP.caused(fault):
                raise
            value, reason = None, one_line(fault)
        if value is None:
            line = f"metric '{plan.name}': {reason}"
            writer.event("not-measured", line, queries_used=used)
            tell(line)
        else:
            values[plan.name] = value
    return values
