"""Views for people who open the log with a tool of their own: newest, scoreboard, curve, exits.

SQLite checks views when it renames a table. A later migration that alters a table drops the views
on it first and creates them again afterwards.
"""

from alembic import op

revision = "0002"
down_revision: str | None = "0001"

# The successful plays that count: of each plan the newest. What-ifs never happened.
_NEWEST = """
CREATE VIEW newest AS
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
CREATE VIEW scoreboard AS
SELECT
    scenario_name, attacker, defender, victim, clone, data, budget,
    count(*) AS seeds,
    avg(clone_accuracy) AS clone_accuracy,
    min(clone_accuracy) AS clone_accuracy_min,
    max(clone_accuracy) AS clone_accuracy_max,
    avg(clone_fidelity) AS clone_fidelity,
    avg(victim_accuracy) AS victim_accuracy,
    avg(served_accuracy) AS served_accuracy,
    avg(victim_accuracy - served_accuracy) AS utility_loss,
    avg(distortion_mean) AS distortion_mean,
    avg(attack_compute_share) AS attack_compute_share,
    avg(benign_compute_share) AS benign_compute_share,
    {settings} AS settings
FROM newest
GROUP BY scenario_name, attacker, defender, victim, clone, data, budget, {settings}
"""

_CURVE = """
CREATE VIEW curve AS
SELECT
    episode.id AS episode_id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, episode.status, episode.kind, episode.budget,
    checkpoint."index" AS checkpoint,
    checkpoint.queries_used,
    checkpoint.queries_used * 1.0 / nullif(episode.budget, 0) AS budget_share,
    checkpoint.clone_accuracy, checkpoint.clone_fidelity, checkpoint.wall_seconds
FROM checkpoint JOIN episode ON episode.id = checkpoint.episode_id
"""

# Exits in long form: one row for each bucket, kind of traffic and exit; the first exit is 0.
_EXITS = """
CREATE VIEW exits AS
SELECT
    episode.id AS episode_id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, round.bucket, round.queries_used, 'attack' AS traffic,
    {number} AS exit, {count} AS answered
FROM round JOIN episode ON episode.id = round.episode_id, {attack}
UNION ALL
SELECT
    episode.id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, round.bucket, round.queries_used, 'benign',
    {number}, {count}
FROM round JOIN episode ON episode.id = round.episode_id, {benign}
"""

_DIALECTS = {
    "sqlite": {
        "settings": "json_remove(plan, '$.seed', '$.after', '$.carried_state')",
        "number": "each.key",
        "count": "each.value",
        "attack": "json_each(round.attack_exits) AS each",
        "benign": "json_each(round.benign_exits) AS each",
    },
    "postgresql": {
        "settings": "CAST(CAST(plan AS jsonb) - 'seed' - 'after' - 'carried_state' AS text)",
        "number": "each.place - 1",
        "count": "CAST(each.counted AS bigint)",
        "attack": "json_array_elements_text(round.attack_exits) "
        "WITH ORDINALITY AS each(counted, place)",
        "benign": "json_array_elements_text(round.benign_exits) "
        "WITH ORDINALITY AS each(counted, place)",
    },
}


def upgrade() -> None:
    """Apply it."""
    words = _DIALECTS[op.get_bind().dialect.name]
    for view in (_NEWEST, _SCOREBOARD, _CURVE, _EXITS):
        # as it stands: a colon in it is no parameter
        op.get_bind().exec_driver_sql(view.format(**words))


def downgrade() -> None:
    """Take it back."""
    for name in ("exits", "curve", "scoreboard", "newest"):
        op.execute(f"DROP VIEW {name}")
