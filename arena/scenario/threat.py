"""The table `[threat]` of a scenario file: what an attacker may ask, from which accounts."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import PydanticCustomError

from arena.registry.messages import MESSAGE
from arena.registry.strict_types import WHOLE
from arena.scenario.schema_parts import DataSpec, Price, Table, Yes

# `Any` in this file: a table as plain JSON values.


class ThreatSpec(Table):
    """What the attacker may ask, and what an answer shows."""

    budget: Annotated[int, Field(ge=1), WHOLE]
    """Images that may be asked in the whole episode."""
    labels: Literal["soft", "hard"] = "soft"
    """Posteriors, or the one-hot of their largest."""
    latency: Literal["none", "virtual", "wall"] = "none"
    """Whether the attacker sees the seconds of an answer, and whence they are taken."""
    pool: DataSpec | None = None
    """Images the attacker owns."""
    allow_test_overlap: Yes = False
    """Lend a pool that holds images clones are scored on; the episode's row counts them."""
    normalisation: Literal["own", "victim"] = "own"
    """Mean and deviation that clones normalise images by: those of the attacker's own pool where it
    needs one and none otherwise, or those of the victim's training images."""
    accounts: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] = 1
    """Accounts that the attacker asks from."""
    account_budget: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Images that each of them may ask; the whole budget where absent."""
    account_policy: Literal["one", "round-robin", "blocks", "by-similarity"] = "one"
    """Which account asks where the attacker names none; see docs/accounts.md."""
    account_price: Price = 0.0
    """Price of an account that was asked from, in the unit of query_price."""
    refused: Literal["charged", "free"] = "charged"
    """Whether a request that the defender refuses is charged as if it were answered."""
    query_price: Price = 1.0
    """Price of a charged image, in any unit; 1 where prices are in queries."""

    @property
    def has_accounts(self) -> bool:
        """Whether anything is said of accounts, so that the log counts them and their price."""
        return any(getattr(self, name) != value for name, value in _ONE_ACCOUNT.items())

    @model_serializer(mode="wrap")
    def _without_usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what nothing is said of: it then bears on nothing."""
        table: dict[str, Any] = dump(self)
        if self.refused == "charged":
            table.pop("refused", None)
        return {k: v for k, v in table.items() if self.has_accounts or k not in _ONE_ACCOUNT}


_ONE_ACCOUNT = {
    name: ThreatSpec.model_fields[name].default
    for name in ("accounts", "account_budget", "account_policy", "account_price", "query_price")
}


def refuse_short_accounts(threat: ThreatSpec) -> None:
    """Refuse accounts that cannot ask for the budget."""
    most = threat.account_budget
    if most is not None and threat.accounts * most < threat.budget:
        raise PydanticCustomError(
            MESSAGE,
            "threat.account_budget: {accounts} accounts of {most} may ask for {all} images, and "
            "threat.budget is {budget}; lower it, or give more",
            {"accounts": threat.accounts, "most": most, "all": threat.accounts * most,
             "budget": threat.budget},
        )  # fmt: skip
