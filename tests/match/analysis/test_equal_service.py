"""Defences at equal served accuracy, on made-up logs with numbers worked out by hand."""

import csv
import json
import math

import pytest
from typer.testing import CliRunner

from arena.analysis.episode_data import gather
from arena.analysis.equal_service import at_equal_service, read_at
from arena.analysis.scoreboard import scoreboard
from arena.analysis.sweeps import named, sweeps_of
from arena.cli.app import app
from arena.report.plots.service import draw_service
from envs.errors import ArenaError, UnknownName

# served accuracy and clone accuracy at each setting of the knob
ALPHA = {0.0: (0.98, 0.90), 0.5: (0.96, 0.60), 1.0: (0.90, 0.30)}
BETA = {1: (0.97, 0.40), 2: (0.95, 0.20)}


def defended(use, params, policy=None):
    return {"defender": {"use": "static", "policy": policy or {}, "name": "x",
                         "defence": [{"use": use, "params": params, "code": ""}]}}  # fmt: skip


@pytest.fixture
def play(made_up):
    def played(name, served, clone, *, attacker="dfme", seed=0, use="u", distortion=0.1, **params):
        plan = defended(use, params)
        made_up.play(attacker, name, seed, clone=clone, served_accuracy=served,
                     distortion_mean=distortion, plan=plan)  # fmt: skip

    return played


@pytest.fixture
def sweep(play):
    def swept(name, points, *, knob="epsilon", seeds=(0,), **options):
        for value, (served, clone) in points.items():
            for seed in seeds:
                play(f"{name} {knob}={value}", served, clone, seed=seed, use=name,
                     **{knob: value}, **options)  # fmt: skip

    return swept


@pytest.fixture
def found(made_up):
    return lambda: sweeps_of(scoreboard(made_up.log.episodes()))


def compared(sweeps, first, second):
    return at_equal_service(named(sweeps, first), named(sweeps, second))


def test_defences_are_compared_on_straight_lines_between_their_settings(sweep, found):
    sweep("alpha", ALPHA)
    sweep("beta", BETA, knob="k")
    told = compared(found(), "alpha", "beta")
    assert told.seeds == (0,)
    # 0.97 is half way from 0.98 to 0.96; 0.96 half way from 0.97 to 0.95; 0.95 a sixth of the way
    # from 0.96 to 0.90
    assert [
        (level.first.served, level.second.served, level.first.mean, level.second.mean)
        for level in told.levels
    ] == [
        pytest.approx(row)
        for row in ((0.97, 0.97, 0.75, 0.40), (0.96, 0.96, 0.60, 0.30), (0.95, 0.95, 0.55, 0.20))
    ]
    assert [level.difference.mean for level in told.levels] == pytest.approx([0.35, 0.30, 0.35])
    assert told.levels[0].first.at == "alpha epsilon=0.0 to alpha epsilon=0.5"
    assert told.levels[0].second.at == "beta k=1"
    assert (told.reason, told.notes) == ("", ())


@pytest.mark.parametrize(
    ("served", "comparable"), [(0.90, True), (0.896, True), (0.895, True), (0.894, False),
                               (0.985, True), (0.986, False)],
)  # fmt: skip
def test_beyond_its_ends_a_sweep_is_read_within_half_a_point_alone(
    sweep, play, found, served, comparable
):
    sweep("alpha", ALPHA)
    play("single", served, 0.25, use="single")
    told = compared(found(), "alpha", "single")
    assert bool(told.levels) == comparable
    if comparable:
        (level,) = told.levels
        assert abs(level.first.served - level.second.served) <= 0.005 + 1e-9
        assert level.difference.mean == pytest.approx((0.30 if served < 0.95 else 0.90) - 0.25)
    else:
        assert told.reason == (
            f"not comparable: alpha serves 90.0 to 98.0 %, single {100 * served:.1f} %"
        )


def test_of_several_settings_of_one_service_the_defender_takes_the_best(sweep, found):
    """From 0.98 down to 0.94 and up again: 0.96 is met at 0.70 and, two thirds on, at 0.30."""
    sweep("alpha", {0: (0.98, 0.9), 1: (0.94, 0.5), 2: (0.97, 0.2)})
    reading = read_at(named(found(), "alpha"), 0.96, (0,))
    assert reading.mean == pytest.approx(0.30)
    assert reading.served == pytest.approx(0.96)
    assert reading.at == "alpha epsilon=1 to alpha epsilon=2"


def test_the_worst_case_is_the_best_clone_of_each_seed_and_service_an_average(play, found):
    for attacker, scores in (("a", (0.5, 0.7)), ("b", (0.6, 0.4))):
        for seed, clone in enumerate(scores):
            served = 0.9 if attacker == "a" else 0.94
            play("d", served, clone, attacker=attacker, seed=seed, distortion=0.2 + 0.1 * seed)
    (one,) = found()[0].settings
    assert one.clone == {0: 0.6, 1: 0.7}
    assert one.served == pytest.approx({0: 0.92, 1: 0.92})
    assert one.distortion == pytest.approx({0: 0.2, 1: 0.3})
    assert (one.worst, one.attackers, one.value) == ("a", ("a", "b"), None)


def test_intervals_are_of_differences_seed_by_seed(play, found):
    """0.5 - 0.2, 0.6 - 0.4 and 0.7 - 0.6: mean 0.2, t(0.975, 2) 4.3027 times 0.1 / sqrt(3).

    Of a hundred images either has the variance 62 * 42 / 104**3 = 0.002315.
    """
    for seed, (one, other) in enumerate(((0.5, 0.2), (0.6, 0.4), (0.7, 0.6))):
        play("one", 0.95, one, seed=seed, use="one")
        play("other", 0.95, other, seed=seed, use="other")
    play("one", 0.95, 0.99, seed=7, use="one")  # which the other lacks
    told = compared(found(), "one", "other")
    assert told.seeds == (0, 1, 2)
    gap = told.levels[0].difference
    assert gap.mean == pytest.approx(0.2)
    assert gap.high - gap.mean == pytest.approx(
        math.hypot(4.3027 * 0.1 / 3**0.5, 1.95996 * (2 * 0.002315) ** 0.5), abs=1e-4
    )


def test_defences_without_a_common_seed_cannot_be_compared(play, found):
    play("one", 0.95, 0.5, seed=0, use="one")
    play("other", 0.95, 0.5, seed=1, use="other")
    assert compared(found(), "one", "other").reason == "not comparable: they share no seed"


def test_an_attacker_that_met_one_of_two_alone_is_named(play, found):
    play("one", 0.95, 0.5, use="one")
    play("other", 0.95, 0.5, use="other")
    play("other", 0.95, 0.9, attacker="filter", use="other")
    assert compared(found(), "one", "other").notes == ("one was not attacked by filter",)
    assert compared(found(), "other", "one").notes == ("one was not attacked by filter",)


def test_a_sweep_is_what_differs_in_one_number_alone(play, made_up, found):
    for epsilon in (0.5, 0.1, 1.0):
        play(f"randp-{epsilon}", 0.95, 0.5, use="randp", epsilon=epsilon, keep="off", hard=True)
        play(f"randp-labels-kept-{epsilon}", 0.98, 0.5, use="randp", epsilon=epsilon, keep="on",
             hard=True)  # fmt: skip
    play("lonely", 0.95, 0.5, use="randp", epsilon=0.1, keep="off", hard=False)
    for strength in (0.0, 1.0):
        made_up.play(defender=f"static strength={strength}", served_accuracy=0.9,
                     plan=defended("randp", {}, {"strength": strength}))  # fmt: skip
    told = {sweep.name: (sweep.knob, [one.value for one in sweep.settings]) for sweep in found()}
    assert told == {
        "randp": ("defence.0.params.epsilon", [0.1, 0.5, 1.0]),
        "randp-labels-kept": ("defence.0.params.epsilon", [0.1, 0.5, 1.0]),
        "lonely": ("", [None]),
        "static": ("policy.strength", [0.0, 1.0]),
    }


def test_a_defence_that_was_not_measured_is_left_out_and_scenarios_are_not_mixed(
    play, made_up, found
):
    play("known", 0.95, 0.5, use="known")
    play("unserved", None, 0.5, use="unserved")
    play("uncopied", 0.95, None, use="uncopied")
    assert [sweep.name for sweep in found()] == ["known"]
    with pytest.raises(UnknownName, match="did you mean 'known'"):
        named(found(), "knwn")
    made_up.play(scenario="other")
    with pytest.raises(ArenaError, match="of one scenario and setting, got 2"):
        found()


# at the command line


@pytest.fixture
def cli(made_up):
    def call(*words):
        made = [str(word) for word in words]
        result = CliRunner().invoke(app, [*made, "--log", made_up.log.where])
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def test_the_command_line_compares_at_equal_service_or_says_that_it_cannot(sweep, play, cli):
    sweep("alpha", ALPHA)
    sweep("beta", BETA, knob="k")
    play("single", 0.5, 0.1, use="single")
    words = ("compare", "alpha", "beta", "--equal-service")
    told = json.loads(cli(*words, "--json"))
    assert (told["comparable"], len(told["levels"])) == (True, 3)
    assert told["levels"][1]["difference"] == pytest.approx(0.30)
    text = " ".join(cli(*words).split())
    assert "97.0 97.0 75.0 40.0 +35.0" in text
    assert "at most half a point apart" in text
    words = ("compare", "beta", "single", "--equal-service")
    assert cli(*words).startswith("not comparable: beta serves 95.0 to 97.0 %, single 50.0 %")
    assert json.loads(cli(*words, "--json"))["comparable"] is False


@pytest.mark.slow
def test_a_report_draws_the_curves_and_writes_their_points(sweep, play, cli, tmp_path):
    sweep("alpha", ALPHA, seeds=(0, 1))
    play("single", 0.5, 0.1, use="single")
    written = cli("report", "--out", tmp_path / "r.html", "--figures", tmp_path).splitlines()
    assert {str(tmp_path / f"made-up-service.{end}") for end in ("png", "svg", "csv")} <= set(
        written
    )
    assert "Clone accuracy at equal service" in (tmp_path / "r.html").read_text("utf-8")
    with open(tmp_path / "made-up-service.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["defence"], row["value"], row["served_accuracy"], row["clone_accuracy"])
            for row in rows] == [
        ("alpha", "0.0", "0.98", "0.9"), ("alpha", "0.5", "0.96", "0.6"),
        ("alpha", "1.0", "0.9", "0.3"), ("single", "", "0.5", "0.1"),
    ]  # fmt: skip
    # 0.9 of a hundred images on both seeds: 1.95996 * sqrt(92 * 12 / 104**3) = 0.0614
    assert float(rows[0]["clone_low"]) == pytest.approx(0.9 - 0.0614, abs=1e-4)
    assert (rows[3]["seeds"], rows[3]["clone_low"], rows[3]["distortion"]) == ("1", "", "0.1")


@pytest.mark.parametrize(("served", "off"), [(0.87, ""), (0.85, "; 1 serve less")])
def test_the_axis_ends_where_nobody_would_serve(sweep, made_up, served, off):
    sweep("alpha", {**ALPHA, 2.0: (served, 0.2)})
    drawing = draw_service(gather(made_up.log, [row.id for row in made_up.log.episodes()]))
    axis = drawing.figure.axes[0]
    assert axis.get_title(loc="left") == f"better: down and right{off}"
    assert bool(axis.get_xlim()[0] > served) == bool(off)
    assert [row[10] for row in drawing.points[1:]][-1] == served  # the table has all of them


def test_without_a_sweep_there_is_no_curve(play, cli, tmp_path):
    play("single", 0.5, 0.1, use="single")
    written = cli("report", "--out", tmp_path / "r.html", "--figures", tmp_path)
    assert "service" not in written


def test_of_a_sweep_with_one_measured_setting_that_one_stays(play, found):
    play("u epsilon=0.1", 0.9, 0.5, epsilon=0.1)
    play("u epsilon=0.2", 0.9, None, epsilon=0.2)
    assert [(one.name, one.knob) for one in found()] == [("u epsilon=0.1", "")]


def test_what_equal_service_does_not_read_is_refused():
    words = ["compare", "single", "single", "--equal-service", "--by", "defender"]
    told = CliRunner().invoke(app, words)
    assert (told.exit_code, "leave out --by" in told.stderr) == (2, True)


def test_a_setting_that_an_attacker_never_met_is_named(play, made_up):
    """Where its best attacker is missing, the worst case falls without a reason."""
    for use in ("randp", "truncation"):
        for setting in (0.1, 0.5):
            for attacker, clone in (("knockoff", 0.6), ("dfme", 0.85)):
                if (use, setting, attacker) != ("randp", 0.5, "dfme"):
                    play(f"{use} e={setting}", 1 - setting, clone, attacker=attacker, use=use,
                         e=setting)  # fmt: skip
    rows = made_up.log.episodes()
    first, second = (named(sweeps_of(scoreboard(rows)), use) for use in ("randp", "truncation"))
    assert at_equal_service(first, second).notes == ("randp e=0.5 was not attacked by dfme",)
