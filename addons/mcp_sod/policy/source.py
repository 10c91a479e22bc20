"""Reads YAML strictly and remembers on which line of which file each value stands."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mcp_sod.errors import PolicyError

type Trail = tuple[str | int, ...]
type Plain = None | bool | int | float | str | list[Plain] | dict[str, Plain]

MAX_FILE = 1 << 20
MAX_NODES = 50_000


@dataclass(slots=True)
class Source:
    """The values of all files of a folder as one tree, and where each came from."""

    tree: dict[str, Plain] = field(default_factory=dict)
    places: dict[Trail, str] = field(default_factory=dict)

    def place(self, path: Trail) -> str:
        """Return `file:line` of a value, or of the nearest thing around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")

    def add(self, file: Path, text: str) -> None:
        """Merge one file: lists and mappings of the same name join; a value given twice is an error."""
        self.places.setdefault((), f"{file.name}:1")
        for key, value, places in _sections(file, text):
            known = self.tree.get(key)
            if isinstance(known, list) and isinstance(value, list):
                self._move(places, key, len(known))
                known.extend(value)
            elif isinstance(known, dict) and isinstance(value, dict):
                twice = next(iter(known.keys() & value.keys()), None)
                if twice is not None:
                    raise _twice(places[key, twice], f"{key}.{twice}", self.place((key, twice)))
                self.places |= places
                known.update(value)
            elif key in self.tree:
                raise _twice(places[key,], key, self.place((key,)))
            else:
                self.tree[key] = value
                self.places |= places

    def _move(self, places: dict[Trail, str], key: str, by: int) -> None:
        for path, place in places.items():
            if len(path) > 1 and isinstance(path[1], int):
                self.places[key, path[1] + by, *path[2:]] = place


def _twice(place: str, key: str, first: str) -> PolicyError:
    return PolicyError(f"{place}: {key} is given twice.", hint=f"It stands at {first} already; keep one of them.")


def _sections(file: Path, text: str) -> Iterator[tuple[str, Plain, dict[Trail, str]]]:
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader)
    except RecursionError:
        raise PolicyError(f"{file.name}: nested too deeply.", hint="Write it out flat.") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{file.name}:{line}: not YAML: {error.problem}.", hint="Mend the line.") from None
    except yaml.YAMLError as error:
        raise PolicyError(f"{file.name}: not YAML: {error}") from None
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise PolicyError(f"{file.name}:1: must hold keys such as `rules:`.", hint="See policies/ for the shape.")
    reader = _Reader(file.name)
    try:
        tree = reader.value(root, ())
    except RecursionError:
        raise PolicyError(f"{file.name}: nested too deeply, or within itself.", hint="Write it out flat.") from None
    assert isinstance(tree, dict)
    for key, value in tree.items():
        yield key, value, {path: place for path, place in reader.places.items() if path[:1] == (key,)}


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Trail, str] = {}
        self.scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: Trail) -> Plain:
        """Build the plain value of a node; raises PolicyError for keys given twice and odd values."""
        if len(self.places) > MAX_NODES:
            raise PolicyError(f"{self.name}: more than {MAX_NODES} values.", hint="Split the policy.")
        self.places.setdefault(path, self._at(node))
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            scalar: Plain = self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):  # a tag of someone's own, the 13th month, a number of 5,000 digits
            dotted = ".".join(map(str, path))
            raise PolicyError(f"{self._at(node)}: {dotted}: not a plain value.", hint="Put it into quotes.") from None
        if scalar is not None and not isinstance(scalar, bool | int | float | str):
            scalar = str(node.value)  # dates and the like: what was written
        return scalar

    def _mapping(self, node: yaml.MappingNode, path: Trail) -> dict[str, Plain]:
        built: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in built:
                dotted = ".".join(map(str, (*path, key)))
                raise _twice(self._at(key_node), dotted, self.places[*path, key])
            self.places[*path, key] = self._at(key_node)
            built[key] = self.value(value_node, (*path, key))
        return built

    def _at(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"
