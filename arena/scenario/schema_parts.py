"""Tables of a scenario file that name data sets and networks, and types that all tables share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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
from pydantic_core import CoreSchema, PydanticCustomError

from arena.http.addresses import is_loopback, is_url, url_fault
from arena.registry.messages import MESSAGE
from arena.registry.strict_types import NUMBER, WHOLE
from arena.scenario.settings import HOW_ASKED
from envs.loading.imports import is_file_use

# `Any` in this file: tables as TOML gives them, before they are validated.

Params = dict[str, JsonValue]
Isolation = Literal["none", "process"]
Kept = Literal["clone"]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER]
Finite = Annotated[float, Field(allow_inf_nan=False), NUMBER]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER]
Price = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False), NUMBER]
"""Bounded so that what a whole game costs is a number that a log can hold."""
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
        for name in ("weights", "normalise", "exits", "class_names", *_ELSEWHERE):
            if not getattr(self, name, None):
                table.pop(name, None)
        return table


class ArchitectureSpec(Table):
    """How a victim elsewhere is built, as far as its owner says; what is left out is unknown."""

    family: str | None = None
    """"resnet", "mobilenet", "densenet", "vgg", "cnn", "mlp" or another."""
    architecture: str | None = None
    """Name of the network."""
    depth: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Layers with weights on the longest path."""
    width: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Channels of the first convolution, or what stands for them."""
    exits: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Exits, the last one included."""


_ELSEWHERE = (*HOW_ASKED, "architecture")


class VictimSpec(NetSpec):
    """The network that serves, and how it is trained; one with weights is taken as it is.

    Or a victim elsewhere (see docs/remote_victim.md): `use` is the address of a model of the Open
    Inference Protocol, or a class of one's own that asks another one.
    """

    exits: tuple[str, ...] = ()
    """Layers of a network of others that exit heads may follow."""

    class_names: tuple[Annotated[str, Field(pattern=r"\S", max_length=100)], ...] = ()
    """What its classes are, in their order, where the names of the data set say too little; shown
    with every answer."""
    recipe: Params = {}
    """Epochs, learning rate and the like, instead of those of the data set's own recipe; of the
    recipe `use` where one is named ("short32": a short training for a CPU with bfloat16)."""
    seed: Seed | None = None
    """Seed of its training; the episode's own where absent."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Elsewhere: the environment variable that holds its API key."""
    rate: Limit | None = None
    """Elsewhere: requests a second at most."""
    batch: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Elsewhere: images of a request at most."""
    timeout: Limit | None = None
    """Elsewhere: seconds to wait for an answer; 60 where absent."""
    permission: Annotated[str, Field(pattern=r"\S")] | None = None
    """Elsewhere: who allowed the test; needed unless the address is of this machine."""
    architecture: ArchitectureSpec | None = None
    """Elsewhere: how it is built, which guesses are scored against."""

    @property
    def is_remote(self) -> bool:
        """Whether it runs elsewhere, so that it can only be asked."""
        return is_url(self.use) or self.permission is not None

    @model_validator(mode="after")
    def _is_asked_only_as_allowed(self) -> Self:
        if not self.is_remote:
            _refuse(
                self,
                _ELSEWHERE,
                "only a victim elsewhere has that, of an address or with permission",
            )
            return self
        if not is_url(self.use):
            if not is_file_use(self.use):
                raise PydanticCustomError(
                    MESSAGE, "expected use = http://HOST:PORT/v2/models/NAME or "
                    "client.py:MyClient for a victim with permission")  # fmt: skip
        elif fault := url_fault(self.use):
            raise PydanticCustomError(MESSAGE, "{fault}", {"fault": fault})
        elif not is_loopback(self.use) and self.permission is None:
            raise PydanticCustomError(
                MESSAGE,
                "permission is missing: {use} is not this machine, so say who allowed this test "
                'with permission = "..."',
                {"use": self.use},
            )
        elif self.params:
            raise PydanticCustomError(MESSAGE, "expected no params: an address takes none")
        _refuse(self, ("weights", "normalise", "exits", "recipe", "seed"),
                "a victim elsewhere is taken as it is")  # fmt: skip
        return self


def _refuse(spec: VictimSpec, names: Iterable[str], reason: str) -> None:
    given = [name for name in names if getattr(spec, name) not in (None, (), {})]
    if given:
        raise PydanticCustomError(
            MESSAGE, "expected no {given}: {reason}",
            {"given": ", ".join(given), "reason": reason},
        )  # fmt: skip
