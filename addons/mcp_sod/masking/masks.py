"""The policy's masks, compiled, and applied to single texts."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mcp_sod.policy.model import Mask
from mcp_sod.policy.patterns import Detector, Sweep, globs, plain_form
from mcp_sod.policy.policy import Policy

type Suspects = frozenset[Detector]

_HIDDEN = "[masked:hidden]"


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

    def __bool__(self) -> bool:
        """Say whether anything is masked at all."""
        return bool(self.masks)

    def concerned(self, suspects: Suspects) -> Suspects:
        """Return those of the suspects that these masks look for."""
        mine = (detector for mask in self.masks for detector in mask.detectors)
        return suspects.intersection(mine) if suspects else suspects

    def field(self, key: str) -> CompiledMask | None:
        """Return the mask that takes this field whole, if any."""
        for mask in self.masks:
            if mask.field(key):
                return mask
        return None

    def redacted(self, text: str) -> str:
        """Return a single text, masked."""
        suspects = self.concerned(self.sweep.suspects([text]))
        return self.text(text, suspects, Counter()) if suspects else text

    def text(self, text: str, suspects: Suspects, counts: Counter[str]) -> str:
        """Return the text with what the suspects find replaced by markers; `counts` learns how often."""
        masked = self._cut(text, suspects, counts)
        plain = plain_form(masked)
        if plain != masked and any(True for _ in self._spans(plain, suspects)):
            # Hidden behind invisible or look-alike characters: no offsets to cut at, so the whole text goes.
            counts["hidden"] += 1
            return _HIDDEN
        return masked

    def _cut(self, text: str, suspects: Suspects, counts: Counter[str]) -> str:
        found = sorted(self._spans(text, suspects), key=lambda item: (item[0], -item[1]))
        pieces: list[str] = []
        at = 0
        for start, end, mask in found:
            if start >= at:
                pieces += [text[at:start], mask.marker]
                counts[mask.name] += 1
            at = max(at, end)
        return "".join([*pieces, text[at:]])

    def _spans(self, text: str, suspects: Suspects) -> Iterator[tuple[int, int, CompiledMask]]:
        for mask in self.masks:
            for detector in mask.detectors:
                if detector in suspects:
                    for start, end in detector.spans(text):
                        if text[start:end] not in self.markers:
                            yield start, end, mask


@functools.lru_cache(maxsize=256)
def masks_for(policy: Policy, roles: frozenset[str]) -> Masks:
    """Return the masks that apply to a reader with these roles; with no role, all of them."""
    masks = tuple(mask for mask in _compiled(policy) if mask.raw_for.isdisjoint(roles))
    return Masks(masks, policy.sweep, frozenset({_HIDDEN, *(mask.marker for mask in masks)}))


@functools.lru_cache(maxsize=4)
def _compiled(policy: Policy) -> tuple[CompiledMask, ...]:
    return tuple(_compile(mask, policy) for mask in policy.document.masking)


def _compile(mask: Mask, policy: Policy) -> CompiledMask:
    return CompiledMask(
        name=mask.id,
        detectors=policy.mask_detectors(mask),
        field=_short(globs(mask.fields, fold=True)),
        raw_for=frozenset(mask.raw_for),
    )


def _short(test: Callable[[str], bool]) -> Callable[[str], bool]:
    """Return the test, which remembers its answers, but for names so long that remembering them costs memory."""
    known = functools.lru_cache(maxsize=4096)(test)
    return lambda name: known(name) if len(name) <= 128 else test(name)
