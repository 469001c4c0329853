"""Says in one or two sentences how a scenario went, no more surely than its tests allow."""

from arena.analysis.episode_data import EpisodeData
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
    return f"{_standing(ranking)} {_between(ranking.rivals[-1])}{_victim(ranking.first)}"


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
    return (
        f"Which defender held out best cannot be told{why}: {names} cannot be told apart. Lowest "
        f"came out {first.versus}: against it, {_reached(first)}."
    )


def _reached(row: ScoreRow) -> str:
    score = with_interval(row.scores[CLONE])
    return f"the best attack, {row.attack}, reached a clone accuracy of {score}"


def _between(last: Rival) -> str:
    """Say how far the last defender lies behind the first, and whether that may be chance."""
    row, gap = last.row, last.gap
    last_is = "held out least" if last.behind else "came out highest"
    held = f"Against {row.versus}, which {last_is}, {_reached(row)}"
    if gap is None:
        return f"{held}; the two were played on different seeds and cannot be paired."
    points = f"{number(gap.difference.mean, 'points')} points"
    if not gap.difference.known:
        return f"{held}: {points} more on the one seed they share, which may be chance."
    sure = "" if last.behind else "; they cannot be told apart"
    return f"{held}: {points} more ({reach(gap.difference, 'points')}){sure}."


def _victim(row: ScoreRow) -> str:
    score = row.scores.get("victim_accuracy")
    return "" if score is None else f" The undefended victim gets {number(score.mean, 'share')}."
