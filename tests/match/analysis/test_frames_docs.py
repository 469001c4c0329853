"""The examples of docs/analysis.md run, and its tables name what there is."""

import re
from pathlib import Path

import pytest

from arena.analysis import frames as analysis
from arena.analysis.paired_tests import NEEDS_PAIRS
from arena.report.plots import FIGURES

DOCS = Path(__file__).parents[3] / "docs" / "analysis.md"
WHOSE = ["episode_id", *analysis.WHOSE]


def test_the_examples_run_one_after_the_other(made_up, monkeypatch, capsys):
    for attacker, shift in (("dfme", 0.1), ("noise", 0.0)):
        for seed in range(3):
            guess = {"attribute": "exits", "inferred": 3, "truth": 3, "correct": seed > 0}
            made_up.play(attacker, "dnf", seed, clone=0.5 + shift, inferences=[guess],
                         events=[("note", "x", {})])  # fmt: skip
    monkeypatch.chdir(Path(made_up.log.where).parent)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL):
        exec(compile(code, "docs/analysis.md", "exec"), names)
    assert names["table"].loc["dfme", "dnf"] == pytest.approx(0.6)
    assert names["mean"]["dnf", 1000] == pytest.approx(0.6)
    # 600 + 300 + 100 attack queries an episode, six episodes
    assert names["shares"]["attack"].tolist() == [3600, 1800, 600]
    assert names["right"]["exits"] == pytest.approx(2 / 3)
    assert len(names["lately"]) == 6
    assert names["found"].difference.mean == pytest.approx(0.1)
    assert "0.1" in capsys.readouterr().out


@pytest.mark.parametrize("frame", ["checkpoints", "rounds", "exits", "inferences", "events"])
def test_the_columns_of_each_frame_are_the_documented_ones(made_up, frame):
    (line,) = re.findall(rf"^\| `{frame}\(\)` \|[^|]*\|([^|]*)\|$", DOCS.read_text("utf-8"), re.M)
    documented = re.findall(r"`(\w+)`", line)
    columns = list(getattr(analysis, frame)(made_up.log).columns)
    assert columns[: len(WHOSE)] == WHOSE
    assert sorted(columns[len(WHOSE) :]) == sorted(documented)


def test_the_figures_are_the_documented_ones():
    named = re.findall(r"^\|[^|]*\| `([\w-]+)` \|", DOCS.read_text("utf-8"), re.M)
    assert named == list(FIGURES)
    assert NEEDS_PAIRS == 6
