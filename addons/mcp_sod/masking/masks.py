"""The policy's masks, compiled, and applied to single texts."""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mcp_sod.policy.findings import Mask
from mcp_sod.policy.patterns import Detector, Sweep, globs, plain_form
from mcp_sod.policy.policy import Policy

type Suspects = frozenset[Detector]

HIDDEN = "[masked:hidden]"
_HIDDEN = "hidden"
ESCAPED = 3  # how often a text is read once more without its escapes
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([^u]))", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_BRACKET = re.compile(r'\\.|"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


MEMORABLE = 128  # characters of a field's name
MEMORY = 4096  # names


@dataclass(frozen=True, slots=True)
class CompiledMask:
    """One mask: what it looks for in values, and which fields it takes whole."""

    name: str
    detectors: tuple[Detector, ...]
    field: Callable[[str], bool]
    raw_for: frozenset[str]

    @property
    def marker(self) -> str:
        """What stands where a value was."""
        return f"[masked:{self.name}]"


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks that apply to one reader."""

    masks: tuple[CompiledMask, ...]
    sweep: Sweep
    markers: frozenset[str]  # what these masks leave behind
    _fields: dict[str, CompiledMask | None] = field(default_factory=dict, compare=False)  # answers known already

    def __bool__(self) -> bool:
        """Say whether anything is masked at all."""
        return bool(self.masks)

    def concerned(self, suspects: Suspects) -> Suspects:
        """Return those of the suspects that these masks look for."""
        mine = (detector for mask in self.masks for detector in mask.detectors)
        return suspects.intersection(mine) if suspects else suspects

    def field(self, key: str) -> CompiledMask | None:
        """Return the mask that takes this field whole, if any."""
        try:
            return self._fields[key]
        except KeyError:
            found = next((mask for mask in self.masks if mask.field(key)), None)
        # Long names, and ever new ones, would cost memory to remember.
        if len(key) <= MEMORABLE and len(self._fields) < MEMORY:
            self._fields[key] = found
        return found

    def redacted(self, text: str) -> str:
        """Return a single text, masked."""
        suspects = self.suspects(text)
        return self.text(text, suspects, Counter()) if suspects else text

    def suspects(self, text: str) -> Suspects:
        """Return the detectors that may find something in the text, or in what its escapes stand for."""
        return self.concerned(self.sweep.suspects([text, *readings(text)]))

    def text(self, text: str, suspects: Suspects, counts: Counter[str]) -> str:
        """Return the text with what the suspects find replaced by markers; `counts` learns how often."""
        masked = self._cut(text, suspects, counts)
        if any(True for reading in readings(masked) if reading != masked for _ in self._spans(reading, suspects)):
            # Hidden behind escapes or invisible or look-alike characters: nowhere to cut, so the whole text goes.
            counts[_HIDDEN] += 1
            return HIDDEN
        return masked

    def _cut(self, text: str, suspects: Suspects, counts: Counter[str]) -> str:
        found = sorted(self._spans(text, suspects), key=lambda item: (item[0], -item[1]))
        pieces: list[str] = []
        at = 0
        for start, end, name in found:
            if start >= at:
                pieces += [text[at:start], f"[masked:{name}]"]
                counts[name] += 1
            at = max(at, end)
        return "".join([*pieces, text[at:]])

    def _spans(self, text: str, suspects: Suspects) -> Iterator[tuple[int, int, str]]:
        for mask in self.masks:
            for detector in mask.detectors:
                if detector in suspects:
                    for start, end, name in _whole(text, detector, mask.name):
                        if text[start:end] not in self.markers:
                            yield start, end, name


def readings(text: str) -> list[str]:
    """Return the forms in which the text may be read: plain, and without JSON escapes, several times over."""
    found = [plain_form(text)]
    for _ in range(ESCAPED):
        if "\\" not in text:
            break
        text = _ESCAPE.sub(_meant, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        found.append(plain_form(text))
    return found


def _meant(escape: re.Match[str]) -> str:
    code, letter = escape.groups()
    return chr(int(code, 16)) if code else _LETTERS.get(letter, letter)


def _whole(text: str, detector: Detector, name: str) -> Iterator[tuple[int, int, str]]:
    """Return what the detector finds; of a field whose value is a list or an object, all up to the closing bracket."""
    covered = 0  # so that no part of the text is looked through twice
    for start, end in detector.spans(text):
        if not detector.group or text[start] not in "[{":
            yield start, end, name
        elif start >= covered:
            closed = closing(text, start)
            covered = max(end, len(text) if closed is None else closed)
            yield start, covered, _HIDDEN if closed is None else name


def closing(text: str, start: int) -> int | None:
    """Return the end of the list or object that begins at `start`; None if it does not end."""
    depth = 0
    for found in _BRACKET.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return None


@functools.lru_cache(maxsize=256)
def masks_for(policy: Policy, roles: frozenset[str]) -> Masks:
    """Return the masks that apply to a reader with these roles; with no role, all of them."""
    masks = tuple(mask for mask in _compiled(policy) if mask.raw_for.isdisjoint(roles))
    return Masks(masks, policy.sweep, frozenset({HIDDEN, *(mask.marker for mask in masks)}))


@functools.lru_cache(maxsize=4)
def _compiled(policy: Policy) -> tuple[CompiledMask, ...]:
    return tuple(_compile(mask, policy) for mask in policy.document.masking)


def _compile(mask: Mask, policy: Policy) -> CompiledMask:
    return CompiledMask(
        name=mask.id,
        detectors=policy.mask_detectors(mask),
        field=_field(mask.fields),
        raw_for=frozenset(mask.raw_for),
    )


def _field(fields: list[str]) -> Callable[[str], bool]:
    named = globs(fields, fold=True)
    return lambda key: named(key) or named(plain_form(key).strip())
