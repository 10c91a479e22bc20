"""Masks one text that comes in pieces: each part is shown as soon as nothing sensitive can begin in it any more."""

import re
from bisect import bisect_right
from collections import Counter
from typing import Any

from mcp_sod.errors import Withheld
from mcp_sod.masking.aligned import Reading, aligned, half_read, last_letter
from mcp_sod.masking.finds import HIDDEN_NAME, Find, finds
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.openings import openings
from mcp_sod.policy.patterns import Detector

LEFT = 256  # characters kept of what was shown: for look-behind, and for escapes within escapes (216 are one letter)
LOOKS = 8  # escapes in a row that are looked through for where the text can be read
FEWER = 3  # of these where much is held
SLICE = 16_384  # characters of a piece that are looked at together: the forms of a text take many times its memory
OFTEN = 1024  # characters held from which on they must grow by an eighth before another look, from SLICE on by all
SLOWLY = 32  # characters among those looked at that are read one by one, for each of which one more is waited for
# What `aligned` may have to read one by one: all but its runs.
SLOW = re.compile("[^\t\n\r -~\xc0-\u0131\u0400-\u045f\u3041-\u3094\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]")


class Tail:
    """Masks one text, given piece by piece; all that it returns, joined, is the masked text.

    It is the same however the text was cut. Unlike `Masks.text`, which then hides a text whole, it hides of what is
    disguised (by escapes, invisible or look-alike characters) just the part that is.
    """

    def __init__(self, masks: Masks, limit: int, counts: Counter[str] | None = None) -> None:
        """`limit`: characters that may be held back; `counts` learns how often each mask found something."""
        self._masks = masks
        self._limit = limit
        self._counts: Counter[str] = Counter() if counts is None else counts
        self._openings = openings(masks)
        self._given_up: set[Any] = set()
        self._named: set[Detector] = set()  # beside which a keyword stood already
        self._unnamed: set[Detector] = set()  # which found something, but no keyword yet
        self._left = ""
        self._held: list[str] = []
        self._size = 0
        self._enough = 0  # characters held before the next look
        self._read: list[Reading] = []  # what was read last, within one piece

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return self._size

    def feed(self, piece: str) -> str:
        """Return what may be shown now; raises Withheld when more must be held back than the limit."""
        if not self._masks or not piece:
            return piece
        if len(piece) > SLICE:
            return "".join(self.feed(piece[at : at + SLICE]) for at in range(0, len(piece), SLICE))
        self._held.append(piece)
        self._size += len(piece)
        if self._size <= min(self._enough, self._limit):
            return ""
        shown = self._look(last=False)
        if self._size > self._limit and self._unnamed:
            self._named |= self._unnamed  # a keyword could still come: hidden without it
            shown += self._look(last=False)
        self._read = []
        if self._size > self._limit:
            raise Withheld(f"More than {self._limit} characters of a streamed text would have to be held back.")
        return shown

    def end(self) -> str:
        """Return the rest: the text ends here."""
        rest = self._look(last=True) if self._size else ""
        self._read = []
        return rest

    def _look(self, *, last: bool) -> str:
        text = self._left + "".join(self._held)
        start = len(self._left)
        seen = text if last else self._readable(text, start)
        forms = self._forms(seen)
        found = self._found(forms, start, last=last)
        cut = len(text) if last else self._settled(forms, start, [find for here in found for find in here])
        shown = self._masked(text, start, cut, found)
        self._left, self._held = text[max(0, cut - LEFT) : cut], [text[cut:]]
        self._size = len(text) - cut
        self._enough = self._size + max(self._more(), self._slow(forms, text[max(0, cut - LEFT) :]))
        return shown

    def _more(self) -> int:
        if self._size >= SLICE:
            return self._size
        return self._size // 8 if self._size > OFTEN else 0

    def _slow(self, forms: list[Reading], kept: str) -> int:
        """Return how many characters to wait for, since reading `kept` again takes long: something is disguised."""
        return len(SLOW.findall(kept)) // SLOWLY if any(form.text != form.level for form in forms) else 0

    def _readable(self, text: str, start: int) -> str:
        """Return the text as far as it can be read: without half an escape, or a letter that a mark may change."""
        end = last_letter(text)
        for _ in range(LOOKS if len(text) <= 2 * SLICE else FEWER):
            half = half_read(self._forms(text[:end])) if "\\" in text[:end] else None
            if end <= start or (half is None and text[end] != "\\"):  # an escape may stand for a mark, too
                return text[: max(start, end)]
            end = last_letter(text[: end if half is None else half])
        return text[:start]

    def _forms(self, text: str) -> list[Reading]:
        """Return the forms of the text, which are made once for all looks that one piece leads to."""
        if not self._read or self._read[0].text != text:
            self._read = aligned(text)
        return self._read

    def _found(self, forms: list[Reading], start: int, *, last: bool) -> list[list[Find]]:
        """Return what is found in each form, in places of the text itself."""
        detectors = [(detector, mask.name) for mask in self._masks.masks for detector in mask.detectors]
        for detector, _ in detectors:
            words = detector.keywords
            if words is not None and detector not in self._named and any(words.search(form.text) for form in forms):
                self._named.add(detector)
        self._unnamed = set()
        found = []
        for form in forms:
            place = form.place(start)
            anything = self._openings.found
            nothing = anything is not None and anything.search(form.text, place) is None
            here = [
                self._in_text(form, find, start, detector)
                for detector, name in detectors
                if detector.keywords is None or detector in self._named or not last
                if not (nothing and detector.linear)
                for find in finds(form.text, place, detector, name, last=last)
            ]
            found.append(here)
        return found

    def _in_text(self, form: Reading, find: Find, start: int, detector: Detector) -> Find:
        begin, finish = form.span(find.begin, find.end if find.finish is None else find.finish)
        shown = find.start == find.end or form.text[find.start : find.end] in self._masks.markers
        hides = (begin, begin) if shown else form.span(find.start, find.end)
        settled = find.finish is not None
        if detector.keywords is not None and detector not in self._named:
            self._unnamed.add(detector)
            settled = False
        return Find(max(start, begin), finish if settled else None, max(start, hides[0]), hides[1], find.name)

    def _settled(self, forms: list[Reading], start: int, found: list[Find]) -> int:
        """Return up to where the text is masked in the same way whatever comes after it."""
        opened = [form.source(self._openings.first(form.text, form.place(start), self._given_up)) for form in forms]
        cut = min([*opened, *(find.begin for find in found if find.finish is None)])
        matches = sorted(((find.begin, find.finish) for find in found if find.finish is not None), reverse=True)
        cut = min(form.whole(cut) for form in forms)
        for begin, finish in matches:
            if begin < cut < finish:
                cut = min(form.whole(begin) for form in forms)
        return max(start, cut)

    def _masked(self, text: str, start: int, cut: int, found: list[list[Find]]) -> str:
        hidden = sorted((find.start, -find.end, find.name) for find in found[0] if find.start < find.end <= cut)
        covered = _joined([(begin, -end) for begin, end, _ in hidden])
        for disguised in (find for here in found[1:] for find in here if find.start < find.end <= cut):
            before = bisect_right(covered, (disguised.start, cut))
            if not before or covered[before - 1][1] < disguised.end:  # not what was found as it stands
                hidden.append((disguised.start, -disguised.end, HIDDEN_NAME))
        pieces: list[str] = []
        at = start
        for begin, end, name in sorted(hidden):
            if begin >= at:
                pieces += [text[at:begin], f"[masked:{name}]"]
                self._counts[name] += 1
            at = max(at, -end)
        return "".join([*pieces, text[at:cut]])


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans, which are in order, with those made one that touch."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
