"""The defender that watches how each client explores, and answers suspects otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass

from agents.base import Defender, DefenderKit, Note
from agents.defenders.countermeasures import Step, check_indices, read_step
from agents.defenders.query_drift import DriftTest, Evidence
from agents.defenders.remembered import remembered
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, Served, View
from envs.ranges import Count, Share

MOST_NOTES = 200


@dataclass(slots=True)
class _ClientRecord:
    """What is known of one client."""

    test: DriftTest
    level: int = 0
    quiet_since: int = 0
    """The client's queries at its last alarm, or when it was last lowered."""


class Detector(Defender):
    """Answers as usual until a client's queries look like exploration, then climbs a ladder.

    Each client is tested by the distances of its queries from its own nearest earlier query of
    the same served label. An alarm moves the client one step up the ladder.

    Args:
        normality: coefficient of normality below which distances raise an alarm ("shape").
        band: least and largest median distance of an ordinary client, as calibrated on benign
            queries of this victim's kind; outside it an alarm is raised too ("place"). It also
            turns away benign users with images of another kind. Absent: not tested.
        window: distances a test looks at; nothing is said before a client gave so many.
        every: distances between two tests of a client, and queries worked off at once.
        memory: latest distinct queries kept per client.
        calm: countermeasure towards unsuspicious clients; defence 0 at strength 0 where absent.
        ladder: countermeasures after one alarm, two, ...; the last defence at strength 1 where
            absent.
        cool_down: queries without an alarm after which a client steps down; never where absent.
        most_clients: clients remembered; beyond it the longest unseen is forgotten.

    Raises:
        PlayerError: a parameter out of range, or a countermeasure that does not exist.

    Notes:
        PRADA tests after every query, on all distances, and drops outliers of both sides. Here a
        window bounds the memory, exact repeats are no evidence, and only far outliers are
        dropped: the probes of a zeroth-order attack are the near ones. What each rule finds on
        digits is measured in `docs/defenders.md`; uniform noise has normal distances, so that
        "shape" alone lets it pass.

    Source:
        Juuti et al. 2019, PRADA, EuroS&P, arXiv:1805.02628.
    """

    def __init__(
        self,
        *,
        normality: Share = 0.85,
        band: Sequence[float] | None = None,
        window: Count = 200,
        every: Count = 100,
        memory: Count = 600,
        calm: Step | None = None,
        ladder: Sequence[Step] | None = None,
        cool_down: Count | None = None,
        most_clients: Count = 1000,
    ) -> None:
        if not 0 <= normality <= 1:
            raise PlayerError(f"expected a normality from 0 to 1, got {normality}")
        if band is not None and (len(band) != 2 or not 0 <= band[0] <= band[1]):
            raise PlayerError(f"expected a band [least, largest] of median distances, got {band}")
        if window < 20 or every < 1 or memory < 1 or most_clients < 1:
            raise PlayerError(
                f"expected window >= 20, every >= 1, memory >= 1 and most_clients >= 1, got "
                f"{window}, {every}, {memory} and {most_clients}"
            )
        if cool_down is not None and cool_down < 1:
            raise PlayerError(f"expected a cool_down of at least 1 query, got {cool_down}")
        if ladder is not None and len(ladder) == 0:
            raise PlayerError("expected at least one step on the ladder, or no ladder at all")
        self._calm = read_step({"strength": 0.0} if calm is None else calm, where="calm")
        self._rungs = [
            read_step(step, where=f"ladder[{number}]") for number, step in enumerate(ladder or ())
        ]
        self._normality, self._band = normality, band
        self._window, self._every, self._memory = window, every, memory
        self._cool_down, self._most_clients = cool_down, most_clients
        self._files: dict[int, _ClientRecord] = {}
        self.alarms: list[Note] = []

    def begin(self, kit: DefenderKit) -> None:
        """Set up; PlayerError where a step names a defence that is not deployed."""
        count = len(kit.deployed_defences)
        if not self._rungs:
            self._rungs = [Countermeasure(count - 1, 1.0)]
        check_indices([self._calm, *self._rungs], count)

    def act(self, view: View) -> Countermeasure:
        """Decide by the level the client has come to."""
        file = self._files.get(view.client)
        if file is None or file.level == 0:
            return self._calm
        return self._rungs[file.level - 1]

    def learn(self, served: Served) -> None:
        """Look at what the client asked, and now and then test it."""
        view = served.view
        file = remembered(self._files, view.client, self._most_clients, self._new_record)
        for evidence in file.test.add(view.images, served.posteriors.argmax(1)):
            if evidence.reason:
                self._raise_alarm(file, evidence, view)
        self._cool(file)

    def notes(self) -> Sequence[Note]:
        """Tell of the first alarms."""
        return self.alarms

    def _new_record(self) -> _ClientRecord:
        return _ClientRecord(
            DriftTest(
                normality=self._normality,
                band=self._band,
                window=self._window,
                every=self._every,
                memory=self._memory,
            )
        )

    def _cool(self, file: _ClientRecord) -> None:
        """Step down where a suspect kept quiet for long enough."""
        if self._cool_down is None or file.level == 0:
            return
        if file.test.asked - file.quiet_since >= self._cool_down:
            file.level -= 1
            file.quiet_since = file.test.asked

    def _raise_alarm(self, file: _ClientRecord, evidence: Evidence, view: View) -> None:
        file.level = min(file.level + 1, len(self._rungs))
        file.quiet_since = evidence.asked
        if len(self.alarms) >= MOST_NOTES:
            return
        message = (
            f"client {view.client} after {evidence.asked:,} queries: {evidence.reason} of "
            f"distances, normality {evidence.normality:.3f}, median {evidence.median:.3g}; "
            f"level {file.level}"
        )
        data = {
            "client": view.client,
            "asked": evidence.asked,
            "reason": evidence.reason,
            "normality": evidence.normality,
            "median": evidence.median,
            "level": file.level,
        }
        self.alarms.append(Note("alarm", message, view.answered + len(view.images), data))
