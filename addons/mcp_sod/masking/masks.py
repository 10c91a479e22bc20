"""The policy's masks, compiled, and applied to single texts."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import regex

from mcp_sod.policy.model import Mask
from mcp_sod.policy.patterns import Detector, compile_regex, globs, plain_form
from mcp_sod.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class CompiledMask:
    """One mask: what it looks for in values, and which fields it takes whole."""

    name: str
    detectors: tuple[Detector, ...]
    field: Callable[[str], bool] | None
    raw_for: frozenset[str]

    @property
    def marker(self) -> str:
        """What stands where a value was."""
        return f"[masked:{self.name}]"


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks that apply to one reader."""

    masks: tuple[CompiledMask, ...]

    def __bool__(self) -> bool:
        """Say whether anything is masked at all."""
        return bool(self.masks)

    def field(self, key: str) -> CompiledMask | None:
        """Return the mask that takes this field whole, if any."""
        return next((mask for mask in self.masks if mask.field is not None and mask.field(key)), None)

    def finds(self, text: str) -> bool:
        """Say whether any mask finds something in the text."""
        return any(detector.found_in(text) for mask in self.masks for detector in mask.detectors)

    def text(self, text: str, counts: Counter[str]) -> str:
        """Return the text with what the masks find replaced by markers; `counts` learns how often."""
        found = sorted(self._spans(text), key=lambda item: (item[0], -item[1]))
        plain = plain_form(text)
        if plain != text and len(list(self._spans(plain))) > len(found):
            # Hidden behind invisible or look-alike characters: no offsets to cut at, so the whole text goes.
            counts["hidden"] += 1
            return "[masked:hidden]"
        pieces, at = [], 0
        for start, end, mask in found:
            if end <= at:
                continue
            if start >= at:
                pieces += [text[at:start], mask.marker]
                counts[mask.name] += 1
            at = end
        return "".join([*pieces, text[at:]])

    def _spans(self, text: str) -> Iterator[tuple[int, int, CompiledMask]]:
        for mask in self.masks:
            for detector in mask.detectors:
                for start, end in detector.spans(text):
                    yield start, end, mask


@functools.lru_cache(maxsize=256)
def masks_for(policy: Policy, roles: frozenset[str]) -> Masks:
    """Return the masks that apply to a reader with these roles; with no role, all of them."""
    return Masks(tuple(mask for mask in _compiled(policy) if mask.raw_for.isdisjoint(roles)))


@functools.lru_cache(maxsize=4)
def _compiled(policy: Policy) -> tuple[CompiledMask, ...]:
    return tuple(_compile(mask, policy) for mask in policy.document.masking)


def _compile(mask: Mask, policy: Policy) -> CompiledMask:
    detectors = [policy.detector(name) for name in mask.detect]
    if mask.regex:
        detectors.append(Detector(mask.id, compile_regex(mask.regex), ()))
    if mask.fields:
        detectors.append(Detector(mask.id, _field_in_text(mask.fields), ()))
    return CompiledMask(
        name=mask.id,
        detectors=tuple(detectors),
        field=functools.lru_cache(maxsize=4096)(globs(mask.fields, fold=True)) if mask.fields else None,
        raw_for=frozenset(mask.raw_for),
    )


def _field_in_text(fields: list[str]) -> regex.Pattern[str]:
    """Return the pattern of `name: value` and `name=value` in free text; the match is the value alone."""
    names = "|".join(regex.escape(field).replace(r"\*", r"[\w-]*").replace(r"\?", r"[\w-]") for field in fields)
    value = r""""(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[^\s,;&}\]"']++"""
    return regex.compile(rf"""(?i)(?<![\w-])(?:{names})["']?\s*[:=]\s*\K(?:{value})""")
