"""The figures of docs/defences.md and docs/defenders.md can be made again."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from arena.log.outcome import OutcomeRow
from arena.log.rows import CheckpointRow, EpisodeRecord, RunRecord
from arena.log.store import Log
from arena.scenario import load
from benchmarks import defence_differences, defence_table, detector_table, pages

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A log with made-up outcomes of some of the suite's episodes."""
    path = tmp_path_factory.mktemp("suite") / "arena.db"
    suite = load(defence_table.SCENARIO)
    wanted = {("dfme", "undefended"), ("dfme", "randp"), ("knockoff", "randp"),
              ("argmax", "undefended"), ("averaging", "randp")}  # fmt: skip
    with Log.open(path) as log:
        record = RunRecord(command="arena run", scenario_name="s", scenario_text="", versions={})
        run = log.begin_run(record)
        for plan in suite.plans():
            if (plan.attacker.name, plan.defender.name) in wanted:
                write(log, run, plan)
    return str(path)


def write(log, run, plan):
    writer = log.begin_episode(
        run,
        EpisodeRecord(
            scenario_name="defence_suite", plan_hash=plan.hash, plan=plan.model_dump(mode="json"),
            seed=plan.seed, attacker=plan.attacker.name, defender=plan.defender.name,
            victim="v", clone="c", data="digits", budget=100,
            versions={"torch": "2.9"}, device="cpu", git_commit="abc",
        ),
    )  # fmt: skip
    accuracy = {"dfme": 0.5, "knockoff": 0.8, "argmax": 0.6, "averaging": 0.7}
    metrics = {"attack_distortion_mean": 0.4, "attack_distortion_p95": 0.5, "generator_loss": 1.0}
    writer.checkpoint(CheckpointRow(index=0, queries_used=1, wall_seconds=1.0, metrics=metrics))
    writer.finish(
        "success",
        OutcomeRow(
            clone_accuracy=accuracy[plan.attacker.name] + 0.01 * (plan.seed - 2),
            served_accuracy=0.975, served_agreement=1.0, distortion_mean=0.3, distortion_p95=0.5,
            attack_macs_mean=200.0, benign_macs_mean=100.0, full_macs=100,
            attack_seconds_mean=1e-4, benign_seconds_mean=2e-4,
            harden_seconds=3.0 if plan.attacker.name == "dfme" else 0.1,
        ),
    )  # fmt: skip


def row(text, defender, table):
    found = re.findall(rf"^\| {defender} \|.*$", text, re.MULTILINE)
    return [cell.strip() for cell in found[table].strip("|").split("|")]


def test_the_table_tells_every_defender_of_the_suite_and_its_best_adaptive_attacker(played):
    suite = defence_table.read(played)
    text = defence_table.tables(suite)
    for defender in suite.scenario.defenders:
        assert len(row(text, defender.name, 1)) == len(defence_table.SERVICE_HEAD)
    assert row(text, "randp", 0)[1:] == [
        "50 (48-52)", "—", "80 (78-82)", "—", "70 (68-72) averaging", "**80** knockoff",
    ]  # fmt: skip
    assert "25 episodes" in text
    assert f"{suite.scenario.size - 25} episodes of the suite were not played" in text


def test_differences_are_taken_seed_by_seed_over_all_attackers(played):
    text = defence_table.tables(defence_table.read(played))
    assert row(text, "randp", 2) == [
        "randp", "-20.0 (-20.0 to -20.0)", "0.0 (0.0 to 0.0)", "—", "—", "0.0 (0.0 to 0.0)",
    ]  # fmt: skip


def test_a_star_is_for_what_holm_leaves():
    worst = {"much": [0.3, 0.31, 0.29, 0.3, 0.32], "alike": [0.1] * 5, "none": [0.1, -0.1, 0, 0, 0]}
    assert defence_differences.shown(worst) == {"much"}
    many = {f"none {number}": [0.1, 0.1, 0.0, 0.1, 0.05] for number in range(5)}
    assert defence_differences.shown(dict(list(many.items())[:1])) != set()
    assert defence_differences.shown(many) == set()


def test_what_a_defence_was_trained_on_is_read_off_its_parameters():
    """Of the episode's plan, so that a row cannot say what was not played."""
    plans = {plan.defender.name: plan for plan in load("defence_suite").plans()}

    def told(name):
        plan = plans[name].model_dump(mode="json")
        return defence_table.trained_on(SimpleNamespace(plan=plan))

    assert told("undefended") == told("grad-labels-kept").replace("generator", "none") == "none"
    assert told("adaptive-misinformation-dnf-sources") == told("dnf")
    assert told("dnf") == "uniform, smooth, pixel-shuffle"
    assert told("adaptive-misinformation") == "generator"
    assert told("detector") == told("dnf")  # of its two deployed defences one is trained


def test_an_attacker_that_is_spared_shows_the_undefended_victims_figure_in_brackets(played):
    text = defence_table.tables(defence_table.read(played))
    assert row(text, "grad-labels-kept", 0)[5] == "[60 (58-62)] argmax"
    assert row(text, "undefended", 0)[5] == "60 (58-62) argmax"


def test_the_price_of_a_defence_is_averaged_over_its_episodes(played):
    text = defence_table.tables(defence_table.read(played))
    assert row(text, "randp", 1)[1:] == [
        "none",
        "97.5", "100.0", "0.30 (0.50)", "— (—)", "0.40 (0.50)", "2.00", "1.00", "100", "200", "3.0",
    ]  # fmt: skip


def test_the_page_and_the_csv_take_the_suite(played, tmp_path):
    suite = defence_table.read(played)
    defence_table.write_csv(suite, tmp_path / "suite.csv")
    lines = (tmp_path / "suite.csv").read_text().splitlines()
    assert len(lines) == 26
    assert lines[0].startswith("defender,attacker,seed")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- suite: begin -->\nold\n<!-- suite: end -->\nb\n")
    pages.write_page("new", page, mark="suite")
    assert page.read_text() == "a\n<!-- suite: begin -->\nnew\n<!-- suite: end -->\nb\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="expected one"):
        pages.write_page("new", page, mark="suite")


def test_the_documentation_has_the_places_for_its_tables():
    defences, defenders = ((DOCS / name).read_text() for name in ("defences.md", "defenders.md"))
    assert defences.count("<!-- suite: begin -->") == defences.count("<!-- suite: end -->") == 1
    assert defenders.count("<!-- detector: begin -->") == 1
    for name in defence_table.MAIN:
        assert name in {one.name for one in load(defence_table.SCENARIO).attackers}


@pytest.mark.slow
def test_dfme_is_flagged_within_5000_queries_on_every_seed():
    """Without the band that was read off digits: by the shape of its distances alone."""
    rows = {row.title: row for row in detector_table.rows()}
    for title in ("DFME, batch 64", "DFME, batch 128"):
        found = rows[title].measure((0, 1, 2))
        assert found.clients == len(found.shape) == 3
        assert max(found.shape) <= 5000


@pytest.mark.slow
def test_50000_benign_queries_of_digits_raise_no_alarm_of_either_kind():
    rows = {row.title: row for row in detector_table.rows()}
    for title in ("84 clients, the 600 test digits each", "28 clients, all 1,797 digits each",
                  "one client, 50,000 turned and shifted digits"):  # fmt: skip
        found = rows[title].measure((0,))
        assert found.queries >= 50_000
        assert found.tests >= 300
        assert found.alarms == 0


def test_a_client_that_explores_is_told_from_one_that_does_not():
    """Each image is followed by one a hair's breadth beside it, as a zeroth-order attack does."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(400, 1, 8, 8, generator=generator)
    probes = torch.stack((images, images + 1e-3), 1).flatten(0, 1)

    def answerer(asked):
        return torch.zeros(len(asked), dtype=torch.int64)

    benign = detector_table.one_client(answerer, iter([images]))
    explorer = detector_table.one_client(answerer, iter([probes]))
    assert benign.shape == ()
    assert benign.tests == 2
    assert explorer.shape == (300,)
    assert explorer.alarms >= 1
    assert "**at 300**" in detector_table.line("explorer", explorer)
