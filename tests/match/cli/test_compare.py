"""Comparisons, exports and reports from the command line, on made-up logs."""

import csv
import json
import math

import pytest
from typer.testing import CliRunner

from arena.cli.app import app


@pytest.fixture
def cli(made_up):
    def call(*words, code=0):
        made = [str(word) for word in words]
        result = CliRunner().invoke(app, [*made, "--log", made_up.log.where])
        assert result.exit_code == code, result.output
        return result

    return call


def flat(text):
    return " ".join(text.split())


def played(made_up, attacker="dfme", defender="dnf", scores=(0.5, 0.6, 0.7), first=0, **options):
    for seed, clone in enumerate(scores, first):
        made_up.play(attacker, defender, seed, clone=clone, **options)


@pytest.fixture
def two_attackers(made_up):
    played(made_up, "dfme", scores=(0.5, 0.6, 0.7))
    played(made_up, "noise", scores=(0.4, 0.4, 0.4))
    return made_up


def test_how_narrow_an_interval_should_be_is_told_in_the_units_of_its_measure(made_up, cli):
    for attacker, seconds in (("dfme", 0.5), ("noise", 0.25)):
        for seed in range(2):
            made_up.play(attacker, "dnf", seed, attack_seconds_mean=seconds)
    words = ("compare", "dfme", "noise", "--measure", "clone_accuracy")
    told = flat(cli(*words, "--measure", "attack_seconds_mean").stdout)
    # a twentieth of half a second
    assert "within 1 point or 25 ms of time per attack query to either side" in told


def test_three_pairs_compare_as_computed_by_hand(two_attackers, cli):
    words = ("compare", "dfme", "noise", "--measure", "clone_accuracy", "--half-width", "0.17")
    told = json.loads(cli(*words, "--json").stdout)
    assert (told["by"], told["left_out"]) == ("attacker", [])
    (meeting,) = told["meetings"]
    assert meeting["title"] == "against dnf"
    (one,) = meeting["contrasts"]
    # differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, t(0.975, 2) = 4.3027
    assert one["first"] == pytest.approx(0.6)
    assert one["second"] == pytest.approx(0.4)
    assert one["difference"] == pytest.approx(0.2)
    # shares of 100 images: (60 + 2) / 104 and (40 + 2) / 104
    images = math.sqrt(2 * 62 * 42 / 104**3)
    reach = math.hypot(4.3027 * 0.1 / math.sqrt(3), 1.95996 * images)
    assert one["t_interval"] == pytest.approx([0.2 - reach, 0.2 + reach], abs=1e-4)
    low, high = one["bootstrap_interval"]
    ends = math.hypot(0.1, 1.95996 * images)
    assert 0.1999 - ends < low < 0.2 < high < 0.2001 + ends
    # of the 8 ways to choose signs, all plus and all minus are as far from 0
    assert (one["p"], one["smallest_p"], one["exact"]) == (0.25, 0.25, True)
    assert one["cohens_dz"] == pytest.approx(2.0)
    assert one["cliffs_delta"] == 1.0
    # 0.17**2 less 0.13336**2 of the images is 0.10543**2; t(0.975, 5) / sqrt(6) = 1.05 is below
    # 1.0543 and t(0.975, 4) / sqrt(5) = 1.24 above: 6 seeds
    assert one["more_seeds"] == 3
    assert one["seeds"] == [0, 1, 2]


def test_the_order_of_the_names_is_the_sign_of_the_difference(two_attackers, cli):
    words = ("--measure", "clone_accuracy", "--json")
    one = json.loads(cli("compare", "dfme", "noise", *words).stdout)["meetings"][0]["contrasts"][0]
    two = json.loads(cli("compare", "noise", "dfme", *words).stdout)["meetings"][0]["contrasts"][0]
    assert one["difference"] == -two["difference"]
    assert one["p"] == two["p"]


def test_the_table_says_what_so_few_pairs_cannot_show(two_attackers, cli):
    told = flat(cli("compare", "dfme", "noise").stdout)
    assert "dfme minus noise, against dnf" in told
    assert "clone accuracy % 60.0 40.0 +20.0" in told
    assert "3 pairs cannot give a p below 0.25" in told
    assert "p Holm: corrected by Holm for the 5 p values shown here" in told


def test_what_the_test_images_leave_open_is_said(made_up, cli):
    """Two seeds alike, at chance, on a hundred images."""
    played(made_up, "dfme", scores=(0.1, 0.1))
    played(made_up, "noise", scores=(0.09, 0.09))
    text = flat(cli("compare", "dfme", "noise", "--measure", "clone_accuracy").stdout)
    assert "both at chance: a guess gets 10.0 %" in text
    assert "where the test images alone leave more than that" in text
    assert "hold the sampling of seeds and of test images" in text
    words = ("compare", "dfme", "noise", "--measure", "clone_accuracy", "--json")
    (one,) = json.loads(cli(*words).stdout)["meetings"][0]["contrasts"]
    assert one["t_interval"][0] < 0 < one["t_interval"][1]
    assert one["bootstrap_interval"] == pytest.approx(one["t_interval"])
    assert (one["more_seeds"], one["at_chance"]) == (None, 0.1)


def test_p_values_of_all_meetings_are_corrected_together(made_up, cli):
    """Six seeds: 2/64 where all differences have one sign, 1 where three have each."""
    for attacker, gain in (("dfme", 0.1), ("noise", 0.2)):
        played(made_up, attacker, "undefended", (0.5,) * 6)
        played(made_up, attacker, "dnf", [0.5 - gain - 0.01 * seed for seed in range(6)])
    played(made_up, "knockoff", "undefended", (0.5,) * 6)
    played(made_up, "knockoff", "dnf", (0.4, 0.6) * 3)
    words = ("compare", "undefended", "dnf", "--measure", "clone_accuracy")
    told = json.loads(cli(*words, "--json").stdout)
    found = [meeting["contrasts"][0] for meeting in told["meetings"]]
    assert [one["p"] for one in found] == [2 / 64, 2 / 64, 1.0]
    # rising: 3 * 2/64; 2 * 2/64, lifted to the one before it; 1 * 1
    assert [one["p_holm"] for one in found] == pytest.approx([6 / 64, 6 / 64, 1.0])
    assert "0.0312 0.0938" in flat(cli(*words).stdout)


def test_a_single_p_value_needs_no_correction(two_attackers, cli):
    words = ("compare", "dfme", "noise", "--measure", "clone_accuracy")
    (meeting,) = json.loads(cli(*words, "--json").stdout)["meetings"]
    assert meeting["contrasts"][0]["p_holm"] == meeting["contrasts"][0]["p"] == 0.25
    assert "corrected by Holm" not in cli(*words).stdout


def test_defenders_are_compared_under_each_attacker_and_the_rest_is_left_out(made_up, cli):
    for attacker in ("dfme", "noise"):
        played(made_up, attacker, "dnf", (0.2, 0.3))
        played(made_up, attacker, "undefended", (0.8, 0.7))
    played(made_up, "knockoff", "dnf", (0.5,))
    told = json.loads(cli("compare", "undefended", "dnf", "--json").stdout)
    assert [meeting["title"] for meeting in told["meetings"]] == ["under dfme", "under noise"]
    assert told["left_out"] == ["under knockoff: only dnf was played with these settings"]
    words = ("compare", "undefended", "dnf", "--attacker", "noise", "--json")
    assert len(json.loads(cli(*words).stdout)["meetings"]) == 1


def test_a_seed_that_one_side_lacks_is_left_out_and_named(made_up, cli):
    played(made_up, "dfme", scores=(0.5, 0.6, 0.9))
    played(made_up, "noise", scores=(0.4, 0.5))
    told = json.loads(cli("compare", "dfme", "noise", "--json").stdout)
    assert told["meetings"][0]["contrasts"][0]["seeds"] == [0, 1]
    assert told["left_out"] == ["against dnf: seed 2 played by one of them alone"]


def test_of_a_seed_that_was_played_twice_the_newest_counts(two_attackers, cli):
    two_attackers.play("noise", "dnf", 0, clone=0.1)
    told = json.loads(cli("compare", "dfme", "noise", "--json").stdout)
    assert told["meetings"][0]["contrasts"][0]["second"] == pytest.approx(0.3)


def test_episodes_that_failed_or_never_happened_are_not_compared(two_attackers, cli):
    two_attackers.play("noise", "dnf", 1, clone=0.9, status="error", error="x")
    two_attackers.play("noise", "dnf", 2, clone=0.9, kind="what-if")
    told = json.loads(cli("compare", "dfme", "noise", "--json").stdout)
    assert told["meetings"][0]["contrasts"][0]["second"] == pytest.approx(0.4)


def test_scenarios_are_compared_pairing_by_pairing_and_say_what_differs(made_up, cli):
    for name, budget, scores in (("small", 1000, (0.3, 0.4)), ("large", 9000, (0.8, 0.8))):
        plan = {"threat": {"budget": budget}}
        played(made_up, scores=scores, scenario=name, plan=plan, budget=budget)
    told = json.loads(cli("compare", "large", "small", "--json").stdout)
    assert told["by"] == "scenario"
    (meeting,) = told["meetings"]
    assert meeting["title"] == "dfme against dnf"
    assert "plan.threat.budget: 9000 | 1000" in meeting["settings"]
    assert meeting["contrasts"][0]["difference"] == pytest.approx(0.45)


def test_two_runs_of_the_same_plans_are_compared(made_up, cli):
    ids = [made_up.play(clone=clone) for clone in (0.4, 0.5)]
    runs = [made_up.log.episode(id).run_id for id in ids]
    told = json.loads(cli("compare", runs[1][:8], runs[0][:8], "--by", "run", "--json").stdout)
    assert told["meetings"][0]["contrasts"][0]["difference"] == pytest.approx(0.1)
    assert told["meetings"][0]["contrasts"][0]["more_seeds"] is None


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("dfme", "dfme"), 2, "expected two different names to compare, got 'dfme' twice"),
        (("dfme", "nois"), 2, "no successful play by or of anything named 'nois'; "
                              "did you mean 'noise'?"),
        (("dfme", "dnf"), 2, "'dfme' and 'dnf' are not of one kind"),
        (("dfme", "noise", "--by", "attackr"), 2, "no kind to compare by named 'attackr'"),
        (("dfme", "noise", "--measure", "clone"), 2, "no measure named 'clone'"),
        (("dfme", "late"), 1, "dfme and late share no seed against dnf: seeds 0, 1, 2 and "
                              "seeds 7, 8; play both on the same with --seeds"),
        (("dfme", "rich"), 1, "dfme and rich cannot be compared: they were never played with the "
                              "same settings; nearest: budget: 1000 | 9000; "
                              "plan.threat.budget: 1000 | 9000"),
        (("dfme", "tuned"), 2, "'tuned' was played with several settings of its own "
                               "(plan.rate: 1 | 2)"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_with_the_reason(two_attackers, cli, words, code, line):
    made_up = two_attackers
    played(made_up, "late", scores=(0.1, 0.2), first=7)
    played(made_up, "rich", plan={"threat": {"budget": 9000}}, budget=9000)
    for rate in (1, 2):
        played(made_up, "tuned", scores=(0.1,), plan={"attacker": {"rate": rate}})
    assert cli("compare", *words, code=code).stderr.startswith(f"arena: {line}")


# Settings


@pytest.fixture
def two_budgets(made_up):
    for budget, scores in ((1000, (0.3, 0.4)), (3000, (0.8, 0.8))):
        for attacker in ("dfme", "noise"):
            for labels in ("soft", "hard"):
                plan = {"threat": {"budget": budget, "labels": labels}}
                played(made_up, attacker, scores=scores, plan=plan, budget=budget)
    return made_up


def test_players_are_compared_in_each_setting_and_the_titles_say_which(two_budgets, cli):
    told = json.loads(cli("compare", "dfme", "noise", "--json").stdout)
    assert [meeting["title"] for meeting in told["meetings"]] == [
        f"against dnf, threat.budget={budget}, threat.labels={labels}"
        for budget in (1000, 3000) for labels in ("soft", "hard")
    ]  # fmt: skip


def test_a_setting_is_compared_when_it_is_named(two_budgets, cli):
    words = ("compare", "3000", "1000", "--by", "threat.budget", "--measure", "clone_accuracy")
    told = json.loads(cli(*words, "--json").stdout)
    assert told["by"] == "threat.budget"
    assert [meeting["title"] for meeting in told["meetings"]] == [
        f"{attacker} against dnf, threat.labels={labels}"
        for attacker in ("dfme", "noise") for labels in ("soft", "hard")
    ]  # fmt: skip
    gaps = [one["contrasts"][0]["difference"] for one in told["meetings"]]
    assert gaps == pytest.approx([0.45] * 4)
    text = cli(*words).stdout
    assert "threat.budget: 3000 minus 1000, dfme against dnf, threat.labels=soft" in text
    alike = cli("compare", "3_000", "1000", "--by", "threat.budget", "--json").stdout
    assert len(json.loads(alike)["meetings"]) == 4
    told = json.loads(cli("compare", "soft", "hard", "--by", "threat.labels", "--json").stdout)
    assert len(told["meetings"]) == 4


def test_a_network_takes_its_parameters_along(made_up, cli):
    for use, width in (("cnn", 8), ("vgg", 16)):
        plan = {"clone": {"use": use, "params": {"width": width}}, "contents": {"clone": use}}
        played(made_up, plan=plan, named={"clone": use})
    told = json.loads(cli("compare", "cnn", "vgg", "--by", "clone.use", "--json").stdout)
    assert [meeting["title"] for meeting in told["meetings"]] == ["dfme against dnf"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("1000", "3000", "--by", "threat.bugdet"), "no kind to compare by named 'threat.bugdet'; "
                                                    "did you mean 'threat.budget'?"),
        (("1000", "300", "--by", "threat.budget"), "no threat.budget with a successful play named "
                                                   "'300'; did you mean '3000'?"),
        (("1000", "3000"), "no successful play by or of anything named '1000'"),
        (("dfme", "noise", "--where", "threat.bugdet=1000"), "no setting named 'threat.bugdet'; "
                                                             "did you mean 'threat.budget'?"),
        (("dfme", "noise", "--where", "threat.budget"), "expected a setting PATH=VALUE, "
                                                        "like threat.budget=3000"),
    ],
)  # fmt: skip
def test_a_setting_that_is_not_there_is_named_with_the_nearest(two_budgets, cli, words, line):
    assert cli("compare", *words, code=2).stderr.startswith(f"arena: {line}")


@pytest.mark.parametrize("command", ["episodes list", "episodes list --json", "export rounds"])
def test_no_list_and_no_export_takes_a_setting_that_is_nowhere(two_budgets, cli, command):
    said = cli(*command.split(), "--where", "threat.bugdet=1000", code=2)
    assert said.stderr.startswith("arena: no setting named 'threat.bugdet'")
    assert not said.stdout


@pytest.mark.slow
def test_lists_reports_and_exports_take_a_setting(two_budgets, cli, tmp_path):
    def found(*words):
        return len(json.loads(cli("episodes", "list", *words, "--json").stdout))

    assert found("--where", "threat.budget=3000") == 8
    assert found("--where", "threat.budget=3_000", "--where", "threat.labels=hard") == 4
    assert found("--where", "threat.budget=3e3", "--attacker", "dfme") == 4
    assert found("--where", "threat.budget=1") == 0
    assert found("--where", "threat.pool=none") == 16
    export = tmp_path / "some.csv"
    words = ("export", "checkpoints", "--where", "threat.labels=soft", "--out", export)
    assert "24 rows" in cli(*words).stdout
    page = tmp_path / "r.html"
    cli("report", "--out", page)
    text = page.read_text("utf-8")
    assert "made-up, threat.budget=3000, threat.labels=hard" in text
    cli("report", "--where", "threat.budget=3000", "--where", "threat.labels=hard", "--out", page)
    assert "threat.budget=3000" not in page.read_text("utf-8").split("<details")[0]


# Exports and reports


def test_an_export_takes_its_format_from_the_file_and_counts_rows(two_attackers, cli, tmp_path):
    told = cli("export", "episodes", "--attacker", "noise", "--out", tmp_path / "noise.csv")
    assert told.stdout == f"{tmp_path / 'noise.csv'}: 3 rows\n"
    with open(tmp_path / "noise.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["attacker"], row["seed"], row["clone_accuracy"]) for row in rows] == [
        ("noise", "0", "0.4"), ("noise", "1", "0.4"), ("noise", "2", "0.4")
    ]  # fmt: skip


def test_an_export_without_a_file_goes_to_standard_output(two_attackers, cli):
    lines = cli("export", "checkpoints", "--format", "jsonl", "--seed", "1").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 6
    assert {row["seed"] for row in rows} == {1}


def test_a_parquet_file_holds_the_same_rows(two_attackers, cli, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    cli("export", "rounds", "--format", "parquet", "--out", tmp_path / "rounds.parquet")
    assert parquet.read_table(tmp_path / "rounds.parquet").num_rows == 12


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("episods",), "no table named 'episods'; did you mean 'episodes'?"),
        (("episodes", "--format", "cvs"), "no format named 'cvs'; did you mean 'csv'?"),
    ],
)
def test_an_export_of_what_is_not_there_is_a_usage_error(two_attackers, cli, words, line):
    assert cli("export", *words, code=2).stderr == f"arena: {line}\n"


def test_a_report_is_about_the_chosen_episodes_and_draws_their_figures(
    two_attackers, cli, tmp_path
):
    page, folder = tmp_path / "out" / "report.html", tmp_path / "figures"
    told = cli("report", "--attacker", "dfme", "--out", page, "--figures", folder, "--title", "T")
    written = told.stdout.splitlines()
    assert written[0] == str(page)
    text = page.read_text()
    assert "<title>T</title>" in text
    assert "dfme" in text
    assert "noise / dnf" not in text
    assert {path.suffix for path in folder.iterdir()} == {".png", ".svg"}
    assert sorted(written[1:]) == sorted(str(path) for path in folder.iterdir())


def test_a_report_takes_ids_or_options_but_not_both(two_attackers, cli, tmp_path):
    id = two_attackers.log.episodes()[0].id
    page = tmp_path / "one.html"
    cli("report", id[:8], "--out", page)
    assert id in page.read_text()
    told = cli("report", id, "--seed", "1", "--out", page, code=1)
    assert "expected ids or options that filter episodes, got both" in told.stderr
    assert "no such episode" in cli("report", "--seed", "99", "--out", page, code=1).stderr


def test_a_report_takes_a_run_and_is_about_all_its_episodes(made_up, cli, tmp_path, monkeypatch):
    from arena.report import html as writing

    monkeypatch.setattr(writing, "FIGURES", {})
    first, second = made_up.play("dfme", seed=0), made_up.play("noise", seed=0)
    run = made_up.log.episode(first).run_id
    page = tmp_path / "r.html"
    cli("report", run[:9], "--out", page)
    text = page.read_text("utf-8")
    assert f"<code>{first}</code>" in text
    assert second not in text
    cli("report", run, second, first, "--out", page)
    text = page.read_text("utf-8")
    assert text.count(f"<code>{first}</code>") == text.count(f"<code>{second}</code>") == 1
    assert "no episode named 'zzz'" in cli("report", "zzz", "--out", page, code=2).stderr


def test_seeds_that_are_alike_but_for_rounding_are_said_to_be_alike(made_up, cli):
    for name, ahead in (("dfme", 0.4), ("noise", 0.1)):  # no share of any number of images
        played(made_up, name, scores=[ahead + 0.1234567 + seed / 100 for seed in range(3)])
    told = cli("compare", "dfme", "noise", "--measure", "clone_accuracy").stdout
    (row,) = (line for line in told.splitlines() if line.startswith("clone accuracy"))
    assert row.count("seeds alike") == 2
    assert row.split()[-1] == "-"  # how many more seeds it takes is not known
    assert "all seeds are alike, which says nothing of others" in told
