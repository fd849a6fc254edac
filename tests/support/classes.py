"""Classes that applications ask for, each with the JSON of one object."""

from __future__ import annotations

import datetime
import enum
import ipaddress
import pathlib
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    TypeVar,
)

from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    RootModel,
    SecretStr,
    StringConstraints,
    conint,
    create_model,
)
from typing_extensions import TypedDict


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int


class Address(BaseModel):
    """Where someone lives."""

    city: str
    zip: str | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


#: Types of the only field of a class, each with a value in JSON.
FIELDS: dict[str, tuple[Any, Any]] = {
    "str": (str, "a"),
    "int": (int, 7),
    "float": (float, 1.5),
    "bool": (bool, True),
    "none": (None, None),
    "optional": (int | None, None),
    "union": (int | str, "a"),
    "any": (Any, {"a": [1]}),
    "literal": (Literal["a", 1], 1),
    "enum": (Color, "red"),
    "int enum": (Level, 2),
    "list": (list[int], [1, 2]),
    "list of any": (list, [1, "a"]),
    "bounded list": (Annotated[list[int], Field(min_length=1, max_length=2)], [1]),
    "set": (set[str], ["a", "b"]),
    "frozenset": (frozenset[Literal["a", "b"]], ["b", "a"]),
    "set in a list": (list[set[int]], [[1], [2, 3]]),
    "tuple": (tuple[int, str], [1, "a"]),
    "tuple of any length": (tuple[int, ...], [1, 2, 3]),
    "named tuple": (Point, [1, 2]),
    "dict": (dict[str, int], {"k": 1}),
    "dict of any": (dict, {"k": [None]}),
    "dict of literals": (dict[Literal["a", "b"], int], {"b": 1}),
    "dict of an enum": (dict[Color, list[int]], {"green": [1]}),
    "dict of ints": (dict[int, str], {"7": "a"}),
    "bytes": (bytes, "abc"),
    "path": (pathlib.Path, "/tmp/a"),
    "secret": (SecretStr, "hidden"),
    "url": (AnyUrl, "https://example.com/"),
    "http url": (HttpUrl, "https://example.com/a?b=c"),
    "address": (ipaddress.IPv4Address, "10.0.0.1"),
    "any address": (ipaddress.IPv4Address | ipaddress.IPv6Address, "10.0.0.1"),
    "uuid": (uuid.UUID, "123e4567-e89b-42d3-a456-426614174000"),
    "decimal": (Decimal, 1.5),
    "date": (datetime.date, "2024-02-29"),
    "datetime": (datetime.datetime, "2024-02-29T12:00:00Z"),
    "time": (datetime.time, "12:00:00Z"),
    "timedelta": (datetime.timedelta, "P1DT2H"),
    "pattern": (Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], "AB"),
    "bounds": (conint(ge=1, lt=10), 9),
    "multiple": (Annotated[int, Field(multiple_of=5)], 15),
    "nested": (Address, {"city": "Oslo", "zip": None}),
    "list of nested": (list[Address], [{"city": "Oslo"}]),
    "discriminated": (
        Annotated[Cat | Dog, Field(discriminator="kind")],
        {"kind": "dog", "name": "Rex"},
    ),
    "union of classes": (Cat | Dog | None, {"kind": "cat", "lives": 9}),
}
#: Classes, and the JSON of one object of each.
CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    name: (create_model(f"Holder{number}", v=(kind, ...)), {"v": value})
    for number, (name, (kind, value)) in enumerate(FIELDS.items())
}

T = TypeVar("T")


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Page(BaseModel, Generic[T]):
    items: list[T]


class Aliased(BaseModel):
    first: str = Field(alias="firstName")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Empty(BaseModel):
    pass


class Pet(RootModel[Cat | Dog]):
    pass


class Ages(RootModel[dict[str, int]]):
    pass


class Numbers(RootModel[list[int]]):
    """Some numbers."""


class Movie(TypedDict):
    """A movie."""

    title: str
    years: list[int]


@dataclass
class Order:
    """An order."""

    quantity: int
    note: str = ""


CLASSES |= {
    "recursive": (Tree, {"value": 1, "children": [{"value": 2, "children": []}]}),
    "generic": (Page[int], {"items": [1]}),
    "generic of a class": (Page[Address], {"items": [{"city": "Oslo"}]}),
    "alias": (Aliased, {"firstName": "Anna"}),
    "forbids others": (Strict, {"a": 1}),
    "allows others": (Open, {"a": 1, "b": "c"}),
    "empty": (Empty, {}),
    "root union": (Pet, {"kind": "cat", "lives": 9}),
    "root dict": (Ages, {"Anna": 31}),
    "typed dict": (Movie, {"title": "Up", "years": [2009]}),
    "dataclass": (Order, {"quantity": 1, "note": "x"}),
}
