"""Sums a scenario up in one or two sentences, no more surely than its tests allow."""

from arena.analysis.episode_data import EpisodeData
from arena.analysis.gaps import Gap
from arena.analysis.ranking import Ranking, Rival, ranked
from arena.analysis.scoreboard import ScoreRow, best, by_defender
from arena.report.formatting import counted, listed, number, reach, with_interval

CLONE = "clone_accuracy"


def headline(episode_data: EpisodeData) -> str:
    """Say in one or two sentences how the scenario went."""
    if not episode_data.board:
        total = counted(len(episode_data.episodes), "episode")
        return f"There is no result: of {total}, none was played to a good end."
    worst = [rows[0] for rows in map(best, by_defender(episode_data.board).values()) if rows]
    if not worst:
        return "No clone was measured, so that nothing can be said about copying."
    ranking = ranked(worst)
    if not ranking.rivals:
        return f"Against {ranking.first.versus}, {_reached(ranking.first)}.{_victim(worst[0])}"
    first, last = ranking.first, ranking.rivals[-1]
    told = _behind(last) if last.behind else _range(first, last)
    if ranking.undecided and last.behind:
        told = f"Lowest came out {first.versus}: against it, {_reached(first)}. {told}"
    return f"{_standing(ranking)} {told}{_victim(first)}"


def _standing(ranking: Ranking) -> str:
    """Say who held out best, no more surely than the seeds and the test images allow."""
    first, undecided = ranking.first, ranking.undecided
    if not undecided:
        others = (
            "the other" if len(ranking.rivals) == 1 else f"each of {len(ranking.rivals)} others"
        )
        shown = f"by a paired t test against {others}, corrected by Holm"
        if len(ranking.rivals) == 1:
            shown = "by a paired t test"
        return f"{first.versus} held out best, {shown}: against it, {_reached(first)}."
    alike = [first, *(rival.row for rival in undecided)]
    names = listed([row.versus for row in alike])
    guesses = {row.at_chance for row in alike}
    if None not in guesses and len(guesses) == 1:
        (guess,) = guesses
        both = "both" if len(alike) == 2 else "all"
        why = f", {both} at chance ({number(guess or 0.0, 'share')})"
    elif all(row.n == 1 for row in alike):
        why = " on one seed"
    else:
        why = ""
    return f"Which defender held out best cannot be told{why}: {names} cannot be told apart."


def _reached(row: ScoreRow) -> str:
    score = with_interval(row.scores[CLONE])
    return f"the best attack, {row.attack}, reached a clone accuracy of {score}"


def _behind(last: Rival) -> str:
    """Say how far the last defender lies behind the first, which a test shows."""
    assert last.gap is not None
    more = f"{_points(last.gap)} more ({reach(last.gap.difference, 'points')})"
    return f"Against {last.row.versus}, which held out least, {_reached(last.row)}: {more}."


def _range(first: ScoreRow, last: Rival) -> str:
    """Say how far the first and the last lie apart, which may be chance."""
    low, high = (number(row.scores[CLONE].mean, "share") for row in (first, last.row))
    gap = last.gap
    if low == high:
        return f"Against each of them the best attack reached a clone accuracy of {low}."
    told = (
        f"The best attack reached a clone accuracy of {low} against {first.versus}, the lowest, "
        f"and of {high} against {last.row.versus}, the highest"
    )
    if gap is None:
        return f"{told}; the two were played on different seeds and cannot be paired."
    if gap.difference.mean < 0:
        shared = counted(len(gap.seeds), "seed")
        return f"{told}; on the {shared} that both have it is the other way round."
    if not gap.difference.known:
        return f"{told}: {_points(gap)} more on the one seed they share, which may be chance."
    return f"{told}: {_points(gap)} more ({reach(gap.difference, 'points')}), which may be chance."


def _points(gap: Gap) -> str:
    return f"{number(gap.difference.mean, 'points')} points"


def _victim(row: ScoreRow) -> str:
    score = row.scores.get("victim_accuracy")
    return "" if score is None else f" The undefended victim gets {number(score.mean, 'share')}."
