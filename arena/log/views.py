"""Defines the views for people who open the log with a tool of their own.

Views hold no data, so they are not part of the migrations: `schema.upgrade` drops them before it
runs any, because SQLite checks views when it renames a table, and creates them again afterwards.
"""

from sqlalchemy import Connection

from arena.log.outcome import METRICS

# The successful plays that count: of each plan the newest. What-ifs never happened.
_NEWEST = """
SELECT * FROM (
    SELECT episode.*, row_number() OVER (
        PARTITION BY plan_hash ORDER BY started DESC, id DESC
    ) AS age
    FROM episode
    WHERE status = 'success' AND kind = 'play'
) AS ranked
WHERE age = 1
"""

# One row for each meeting; settings are everything but the seed and what follows from it, so that
# no two budgets mix.
_SCOREBOARD = """
SELECT
    scenario_name, attacker, defender, victim, clone, data, budget, num_classes,
    count(*) AS seeds,
    min(clone_accuracy) AS clone_accuracy_min,
    max(clone_accuracy) AS clone_accuracy_max,
    avg(victim_accuracy - served_accuracy) AS utility_loss,
    {means},
    {settings} AS settings
FROM newest
GROUP BY scenario_name, attacker, defender, victim, clone, data, budget, num_classes, {settings}
"""

_CURVE = """
SELECT
    episode.id AS episode_id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, episode.status, episode.kind, episode.budget,
    checkpoint."index" AS checkpoint,
    checkpoint.queries_used,
    checkpoint.queries_used * 1.0 / nullif(episode.budget, 0) AS budget_share,
    checkpoint.clone_accuracy, checkpoint.clone_fidelity, checkpoint.wall_seconds
FROM checkpoint JOIN episode ON episode.id = checkpoint.episode_id
"""

# Exits in long form: one row for each bucket, kind of traffic, deployed defence and exit; the first
# defence and the first exit are 0.
_EXITS = """
SELECT
    episode.id AS episode_id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, round.bucket, round.queries_used, 'attack' AS traffic,
    {defence} AS defence, {number} AS exit, {count} AS answered
FROM round JOIN episode ON episode.id = round.episode_id, {attack}
UNION ALL
SELECT
    episode.id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, round.bucket, round.queries_used, 'benign',
    {defence}, {number}, {count}
FROM round JOIN episode ON episode.id = round.episode_id, {benign}
"""

# In the order in which they are created: one may read those before it.
VIEWS = {"newest": _NEWEST, "scoreboard": _SCOREBOARD, "curve": _CURVE, "exits": _EXITS}

_DIALECTS = {
    "sqlite": {
        "settings": "json_remove(plan, '$.seed', '$.after', '$.carried_state')",
        "number": "each.key",
        "count": "each.value",
        "defence": "deployed.key",
        "attack": "json_each(round.attack_exits) AS deployed, json_each(deployed.value) AS each",
        "benign": "json_each(round.benign_exits) AS deployed, json_each(deployed.value) AS each",
    },
    "postgresql": {
        "settings": "CAST(CAST(plan AS jsonb) - 'seed' - 'after' - 'carried_state' AS text)",
        "number": "each.place - 1",
        "count": "CAST(each.counted AS bigint)",
        "defence": "deployed.place - 1",
        "attack": "json_array_elements(round.attack_exits) "
        "WITH ORDINALITY AS deployed(exits, place), json_array_elements_text(deployed.exits) "
        "WITH ORDINALITY AS each(counted, place)",
        "benign": "json_array_elements(round.benign_exits) "
        "WITH ORDINALITY AS deployed(exits, place), json_array_elements_text(deployed.exits) "
        "WITH ORDINALITY AS each(counted, place)",
    },
}


def create(connection: Connection) -> None:
    """Create every view; the tables must be up to date."""
    means = (f"avg({name}) AS {name}" for name, metric in METRICS.items() if metric.averaged)
    words = {**_DIALECTS[connection.dialect.name], "means": ",\n    ".join(means)}
    for name, query in VIEWS.items():
        # as it stands: a colon in it is no parameter
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {query.format(**words)}")


def drop(connection: Connection) -> None:
    """Drop every view that is there."""
    for name in reversed(VIEWS):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
