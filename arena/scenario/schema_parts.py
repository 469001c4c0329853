"""Tables of a scenario file that name data sets and networks, and types that all tables share."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from arena.registry.strict_types import NUMBER, WHOLE

# `Any` in this file: tables as TOML gives them, before they are validated.

Params = dict[str, JsonValue]
Isolation = Literal["none", "process"]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER]
Finite = Annotated[float, Field(allow_inf_nan=False), NUMBER]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER]
Seed = Annotated[int, Field(ge=0, lt=2**63), WHOLE]
Yes = Annotated[bool, Field(strict=True)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=100, pattern=r"^[^\s./][^/\x00-\x1f\x7f-\x9f\u2028\u2029]*$"),
]
"""Names a file and a row of a table: no slash, no control character."""


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Named(Table):
    """A table that may also be written as the text of its `use`."""

    use: str
    """What to use, by its registered name."""
    params: Params = {}
    """Its parameters, by name."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        table = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [{"type": "string"}, dict(table)]}


class DataSpec(Named):
    """Where images come from."""

    root: Path | None = None
    """Folder of the files; relative to the scenario's folder if it lies there."""
    download: Yes = False
    """Fetch what is missing."""


class VictimDataSpec(DataSpec):
    """The data set that the victim learns and clones are scored on."""

    resample: Yes = False
    """Divide it anew by each episode's seed, so that intervals cover the choice of images."""


class NormaliseSpec(Table):
    """What images are normalised by, of values in [0, 1]."""

    mean: Annotated[tuple[Finite, ...], Field(min_length=1)]
    """By channel; one number serves all."""
    std: Annotated[tuple[Above, ...], Field(min_length=1)]
    """By channel; one number serves all."""


class NetSpec(Named):
    """A network: one of ours, or one of others (see docs/own_model.md)."""

    weights: Path | None = None
    """A file of all its weights: a state dict or safetensors."""
    normalise: NormaliseSpec | None = None
    """What it normalises images by."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not given: it then bears on nothing."""
        table: dict[str, Any] = dump(self)
        for name in ("weights", "normalise", "exits"):
            if not getattr(self, name, None):
                table.pop(name, None)
        return table


class VictimSpec(NetSpec):
    """The network that serves, and how it is trained; one with weights is taken as it is."""

    exits: tuple[str, ...] = ()
    """Layers of a network of others behind which exit heads may sit."""

    recipe: Params = {}
    """Epochs, learning rate and the like."""
    seed: Seed | None = None
    """Seed of its training; the episode's own where absent."""
