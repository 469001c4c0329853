"""The report answers from the data, opens offline, tells nothing it should not, and never fails."""

import re
from html.parser import HTMLParser

import pytest
import torch

from arena.analysis.episode_data import gather
from arena.report import html as page
from arena.report.findings import findings
from arena.report.headline import headline
from arena.report.html import write_report
from arena.report.tables import episode_details, inference_lines, score_lines
from envs.errors import ArenaError, UnknownName


@pytest.fixture
def no_figures(monkeypatch):
    """Leave the figures out where a test is about words: they take most of the time."""
    monkeypatch.setattr(page, "FIGURES", {})


def episode_data_of(made_up):
    rows = made_up.log.episodes()
    return gather(made_up.log, [row.id for row in reversed(rows)])


def answers(made_up, question):
    (found,) = [f for f in findings(episode_data_of(made_up)) if question in f.question]
    return {answer.subject: answer.text for answer in found.answers}


def report_of(made_up, tmp_path, **options):
    ids = [row.id for row in made_up.log.episodes()]
    return write_report(made_up.log, ids, tmp_path / "r.html", **options).read_text("utf-8")


class Reader(HTMLParser):
    """Collects what a page loads, its ids, its open elements and its text."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.loads, self.ids, self.links, self.text = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "srcset", "href", "xlink:href", "action", "poster", "data"):
                if value.startswith("#"):
                    self.links.append(value)
                elif not value.startswith("data:image/png;base64,"):  # inside the page already
                    self.loads.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def full(shared_made_up):
    """Two attackers, two defenders, two seeds, inferences, an event and a cancelled episode."""
    made_up = shared_made_up
    for attacker, shift in [("dfme", 0.0), ("knockoff", -0.1)]:
        for defender, clone in [("undefended", 0.9), ("dnf", 0.4)]:
            for seed in range(2):
                made_up.play(
                    attacker,
                    defender,
                    seed,
                    clone=round(clone + shift + seed / 50, 2),  # of a hundred images
                    inferences=[
                        {"attribute": "exits", "inferred": 2 + seed, "truth": 3,
                         "correct": seed == 1, "confidence": 0.5},
                    ],
                    events=[("note", "the clone answered NaN", {"traceback": "/home/x/y.py"})],
                )  # fmt: skip
    made_up.play("dfme", "dnf", 7, clone=0.1, status="cancelled", error="interrupted by the user")
    return made_up


@pytest.fixture(scope="module")
def full_text(full, tmp_path_factory):
    """The report about it, which takes seconds to draw."""
    return report_of(full, tmp_path_factory.mktemp("report"))


def test_a_full_report_is_one_well_formed_page_that_loads_nothing(full_text):
    text, reader = full_text, Reader(full_text)
    assert reader.open == []
    assert reader.loads == []
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    tags = [tag for tag, _ in reader.tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    assert tags.count("svg") == 6
    assert "default-src 'none'" in text
    assert len(text) < 1_000_000


def test_what_each_defence_brings_and_costs_stands_at_the_top(full_text):
    effects = full_text.index("What each defence brings and costs")
    assert effects < full_text.index("Which attack did best") < full_text.index("Scoreboard")
    # dnf: 0.9 against 0.4, and half a hundredth less for each of two seeds
    assert "+50.0" in full_text[effects : full_text.index("Which attack did best")]
    assert "What did it cost the defender?" not in full_text


def test_its_ids_are_unique_and_its_links_lead_somewhere(made_up, tmp_path):
    for scenario in ("one", "the other"):
        made_up.play(scenario=scenario)
    reader = Reader(report_of(made_up, tmp_path))
    assert {"#one", "#the-other"} <= set(reader.links)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links} <= set(reader.ids)


def test_it_can_be_read_by_those_who_cannot_see_it(full_text):
    tags = Reader(full_text).tags
    assert dict(tags)["html"] == {"lang": "en"}
    assert [tag for tag, _ in tags].count("h1") == 1
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in tags if tag == "th")
    pictures = [attrs for _, attrs in tags if attrs.get("role") == "img"]
    assert len(pictures) == 6
    assert all(len(attrs["aria-label"]) > 20 for attrs in pictures)
    boxes = [attrs for _, attrs in tags if "scroll" in (attrs.get("class") or "")]
    assert all(attrs.get("tabindex") == "0" for attrs in boxes)


def test_the_same_log_gives_the_same_file(full, full_text, tmp_path):
    assert report_of(full, tmp_path) == full_text


def test_hostile_names_stay_text(made_up, tmp_path):
    evil = "<script>alert(1)</script>--><img src=http://x.invalid/a>\"'&{{ 7*7 }}"
    made_up.play(
        evil,
        evil,
        scenario=evil,
        text=evil,
        command=evil,
        plan={"note": evil},
        inferences=[{"attribute": evil, "inferred": evil, "truth": evil}],
        events=[(evil, evil, {})],
        status="success",
    )
    text = report_of(made_up, tmp_path, title=evil)
    reader = Reader(text)
    assert not {"script", "img"} & {tag for tag, _ in reader.tags}
    assert reader.loads == []
    assert evil in "".join(reader.text)
    assert reader.open == []


def test_the_headline_names_the_best_attack_on_the_strongest_and_weakest_defence(full):
    # means over the seeds: dfme 0.91 and 0.41, knockoff 0.1 less
    text = headline(episode_data_of(full))
    assert text.startswith(
        "dnf held out best, by a paired t test: against it, the best attack, dfme, reached a clone "
        "accuracy of 41.0% (95% interval 25.2% to 56.8%, 2 seeds). "
    )
    assert "Against undefended, which held out least, the best attack, dfme" in text
    assert "91.0%" in text
    # 0.9 against 0.4 and 0.92 against 0.42; variances 43 * 61 / 104**3 and 93 * 11 / 104**3 of
    # a hundred images: 1.96 * sqrt(0.003241) = 0.1116
    assert "50.0 points more (95% interval 38.8 to 61.2, alike on 2 seeds). " in text
    assert text.endswith("The undefended victim gets 95.0%.")


def test_defenders_at_chance_are_said_to_be_there(made_up):
    for seed in range(2):
        made_up.play("dfme", "a", seed, clone=0.09)
        made_up.play("dfme", "b", seed, clone=0.11)
    text = headline(episode_data_of(made_up))
    assert "cannot be told, both at chance (10.0%): a and b cannot be told apart" in text
    assert answers(made_up, "Which attack")["a"].endswith("; at chance (10.0%).")


def test_the_findings_carry_the_hand_computed_numbers(full):
    attacks = answers(full, "Which attack")
    # differences to knockoff are 0.1 on both seeds
    assert "dfme, clone accuracy 41.0%" in attacks["dnf"]
    assert "10.0 points ahead of knockoff" in attacks["dnf"]
    assert "p = 0.5, the least that 2 seeds can give" in attacks["dnf"]
    costs = answers(full, "cost the defender")
    share = "an attack query took 40.0% of the whole network's compute (alike on 2 seeds)"
    assert share in costs["dnf"]
    assert "moved by 0.120" in costs["dnf"]
    losses = answers(full, "benign users")
    # answers differ from the victim's on at most 4 % of 100 images: 1.96 * sqrt(0.0396 / 100)
    assert "2.0 points lost (95% interval \N{MINUS SIGN}1.9 to 5.9, alike on 2" in losses["dnf"]
    assert "right in 93.0%" in losses["dnf"]
    sure = " ".join(answer.text for answer in findings(episode_data_of(full))[3].answers)
    assert "Of 9 episodes, 1 is in no mean: 1 cancelled." in sure
    assert "On 2 seeds no paired test gives a p below 0.5" in sure


def test_one_seed_is_said_to_have_no_interval(made_up):
    made_up.play("a")
    made_up.play("b", clone=0.3)
    assert "50.0% (one seed, no interval)" in headline(episode_data_of(made_up))
    (sure,) = answers(made_up, "How sure").values()
    assert "single seed, so that there is no interval" in sure
    assert "on the one seed they share" in answers(made_up, "Which attack")["dnf"]
    lines = score_lines(episode_data_of(made_up).board)
    assert {cell.interval for line in lines for cell in line.cells} == {""}


def test_wide_intervals_say_how_many_seeds_would_narrow_them(made_up):
    for seed, clone in enumerate([0.5, 0.6, 0.7]):
        made_up.play(seed=seed, clone=clone)
    sure = findings(episode_data_of(made_up))[3]
    text = " ".join(answer.text for answer in sure.answers)
    assert "the sampling of the 100 test images" in text
    assert "no number of seeds would narrow it to ±2.0 points" in text


def test_a_defence_that_helps_benign_users_is_said_to_gain(made_up):
    made_up.play(victim_accuracy=0.90, served_accuracy=0.93)
    assert "3.0 points gained" in answers(made_up, "benign users")["dnf"]
    same = {"victim_accuracy": 0.9, "served_accuracy": 0.9, "served_agreement": 1.0}
    for seed in range(2):
        made_up.play("b", "free", seed, **same)
    assert answers(made_up, "benign users")["free"].startswith("nothing:")


def test_the_scoreboard_shows_the_means_and_marks_the_best(full, full_text):
    lines = score_lines(episode_data_of(full).board)
    shown = [(line.row.title, line.best, line.cells[0].mean) for line in lines]
    assert shown == [
        ("dfme / undefended", True, "91.0%"),
        ("knockoff / undefended", False, "81.0%"),
        ("dfme / dnf", True, "41.0%"),
        ("knockoff / dnf", False, "31.0%"),
    ]
    # standard deviation of 0.40 and 0.42 is 0.01 sqrt(2), t(0.975, 1) = 12.706: 0.12706; of a
    # hundred images 1.96 * sqrt(43 * 61 / 104**3) = 0.09464; together 0.15844
    assert lines[2].cells[0].interval == "25.2 to 56.8"
    text = "".join(Reader(full_text).text)
    assert "41.0%25.2 to 56.8" in text


def test_inferences_stand_beside_the_truth(full):
    line = inference_lines(episode_data_of(full))[0]
    assert (line.attribute, line.truth, line.correct, line.confidence) == (
        "exits",
        "3",
        "1 of 2",
        "50%",
    )
    assert line.inferred == "2 (1 of 2); 3 (1 of 2)"


@pytest.mark.parametrize(
    "case",
    [
        {"exits": None},
        {"clone": None},
        pytest.param({"curve": ()}, marks=pytest.mark.slow),
        pytest.param({"exits": ((1000,), (0,))}, marks=pytest.mark.slow),
        {"exits": ((1000,), (250,)), "served_accuracy": None, "victim_accuracy": None},
        {"status": "cancelled", "error": "interrupted by the user"},
        {"status": "error", "error": "DefenceError: off the simplex", "clone": None},
        pytest.param({"status": "started"}, marks=pytest.mark.slow),
        pytest.param({"kind": "what-if"}, marks=pytest.mark.slow),
        {"text": "", "plan": {}},
        dict.fromkeys(("queries_used", "attack_answered", "benign_answered", "clone_fidelity",
                       "full_macs", "attack_macs_mean", "attack_compute_share", "num_classes",
                       "benign_compute_share", "distortion_mean", "attack_seconds_mean")),
    ],
)  # fmt: skip
def test_whatever_is_missing_there_is_a_report(made_up, tmp_path, case):
    made_up.play(**case)
    reader = Reader(report_of(made_up, tmp_path))
    assert reader.open == []
    text = "".join(reader.text)
    assert "None" not in text
    assert "nan" not in text.lower().replace("unanswered", "")


def test_a_report_without_results_says_so(made_up, tmp_path, no_figures):
    made_up.play(status="error", error="it broke", clone=None)
    text = "".join(Reader(report_of(made_up, tmp_path)).text)
    assert "There is no result: of 1 episode, none was played to a good end." in text
    assert "it broke" in text


def test_missing_figures_are_named_with_their_reason(made_up, tmp_path):
    made_up.play(exits=None, clone=None)
    text = "".join(Reader(report_of(made_up, tmp_path)).text)
    assert "Not drawn: " in text
    assert "exits (no exits were logged" in text


def test_each_episode_unfolds_to_what_the_log_knows(full, full_text):
    episode_data = episode_data_of(full)
    details = episode_details(episode_data, episode_data.episodes[0])
    facts = dict(details.facts)
    assert facts["status"] == "success"
    assert facts["queries"] == "1,000 of 1,000"
    assert facts["versions"] == "torch 2.6"
    assert details.checkpoints[-1] == ("1,000", "90.0%", "")
    assert details.events == [("note at 10 queries", "the clone answered NaN")]
    text = "".join(Reader(full_text).text)
    assert f"arena replay {full.log.episodes()[0].id} --verify" in text
    assert 'name = "made-up"' in text


def test_only_an_episode_that_can_be_played_again_is_named_for_it(made_up, tmp_path, no_figures):
    made_up.play(seed=0, kind="what-if")
    made_up.play(seed=1, plan={"victim": {"use": "HTTP://localhost:8/v2/models/a"}})
    assert "--verify" not in "".join(Reader(report_of(made_up, tmp_path)).text)
    row = made_up.play(seed=2)
    text = "".join(Reader(report_of(made_up, tmp_path)).text)
    assert f"toml\narena replay {row} --verify" in text


def test_episodes_beyond_the_unfolded_count_in_the_tables(
    made_up, tmp_path, monkeypatch, no_figures
):
    monkeypatch.setattr(page, "DETAILED", 2)
    for seed in range(5):
        made_up.play(seed=seed)
    text = "".join(Reader(report_of(made_up, tmp_path)).text)
    assert "3 more episodes count in the tables" in text
    assert "5 seeds" in text


@pytest.mark.slow
def test_fifty_episodes_stay_below_five_megabytes(made_up, tmp_path):
    """Noise in colour compresses worst: every episode asked other noise, ten times sampled."""
    noise = torch.Generator().manual_seed(0)
    edges, counts = [1 + k / 100 for k in range(121)], list(range(120))
    clock = {"edges": edges, "counts": counts, "exits": [{"seconds": 1.5, "share": 1.0}],
             "images": 7140, "repeats": 1, "certainty": 0.5}  # fmt: skip
    for attacker in "abcde":
        for defender in "vwxyz":
            for seed in range(2):
                made_up.play(
                    attacker,
                    defender,
                    seed,
                    curve=[(k * 100, k / 10) for k in range(11)],
                    asked=[(k, torch.rand(16, 3, 64, 64, generator=noise)) for k in range(10)],
                    events=[("latencies", "told one exit apart", {"data": clock})],
                )
    text = report_of(made_up, tmp_path)
    assert "What the attackers asked" in text
    assert "What the clock told" in text
    assert len(text.encode()) < 5_000_000


def test_the_report_tells_nothing_of_the_machine(made_up, tmp_path, no_figures):
    made_up.play(
        command="arena run /home/someone/work/x.toml",
        text='root = "/home/someone/data sets/cifar"',
        plan={"data": {"root": "/home/someone/data"}},
        status="error",
        error="no file /home/someone/data/cifar.bin",
        events=[("note", "read /home/someone/y", {"traceback": "File /home/someone/z.py"})],
    )
    text = report_of(made_up, tmp_path)
    assert "someone" not in text
    assert "secret-host" not in text
    assert "arena run …/x.toml" in text


def test_what_cannot_be_reported_or_written_is_said_in_one_line(made_up, tmp_path, no_figures):
    id = made_up.play()
    with pytest.raises(ArenaError, match="at least one episode"):
        write_report(made_up.log, [], tmp_path / "r.html")
    with pytest.raises(UnknownName, match="no episode named"):
        write_report(made_up.log, ["zzz"], tmp_path / "r.html")
    with pytest.raises(ArenaError, match="cannot write the report"):
        write_report(made_up.log, [id], tmp_path)


def test_folders_on_the_way_are_made_and_the_path_comes_back(made_up, tmp_path, no_figures):
    out = tmp_path / "a" / "b" / "r.html"
    assert write_report(made_up.log, [made_up.play()[:6]], out) == out
    assert out.read_text("utf-8").startswith("<!doctype html>")
