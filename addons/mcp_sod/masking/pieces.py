"""The texts of a model's streamed reply, each masked as its pieces come: as text, as JSON, or left as it is."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from mcp_sod.errors import Withheld
from mcp_sod.masking.finds import closes
from mcp_sod.masking.masks import Masks, closing
from mcp_sod.masking.message import MaskedMessage
from mcp_sod.masking.tail import OFTEN, Tail
from mcp_sod.wire.strict_json import dumps, parse_text

type Key = tuple[str | int | None, ...]  # what tells the texts of one reply apart

WHOLE: Final = 16  # times as much may be held of arguments as of text
MOST: Final = 4096  # texts of one reply; and characters of a name that comes over and over, looked at together
TOGETHER: Final = 256  # texts that may go on at once in one choice, item or block: each end looks through them
REPEATED: Final = 512  # characters of a name or an id that may come again
_JSON_BEGINS = re.compile(r'[ \t\r\n]*(?:(?P<begun>\{[ \t\r\n]*["}]|\[[ \t\r\n]*[\[{"\]0-9-])|[\[{]?[ \t\r\n]*\Z)')


class Part(Protocol):
    """One text: takes its pieces and gives what may be shown of them."""

    @property
    def held(self) -> int:
        """How many characters are held back."""

    def feed(self, piece: str) -> str:
        """Return what may be shown now."""

    def end(self) -> str:
        """Return the rest: the text ends here."""


class Whole:
    """A text held until its end: of JSON, such as a call's arguments, nothing is masked rightly before."""

    def __init__(self, masks: Masks, counts: Counter[str]) -> None:
        """`counts` learns how often each mask found something."""
        self._masks = masks
        self._counts = counts
        self._pieces: list[str] = []
        self.held = 0

    def feed(self, piece: str) -> str:
        """Return nothing yet."""
        self._pieces.append(piece)
        self.held += len(piece)
        return ""

    def taken(self) -> str:
        """Return the text as it came, which is no longer held."""
        text = "".join(self._pieces)
        self._pieces, self.held = [], 0
        return text

    def end(self) -> str:
        """Return the text, masked as a member of a message is: if it is JSON, so is the result."""
        text = self.taken()
        masked = parse_text(MaskedMessage(self._masks, counts=self._counts).text(dumps([text]), [text]))
        assert isinstance(masked, list)
        (leaf,) = masked
        assert isinstance(leaf, str)
        return leaf


class Prose:
    """Text that is shown as it comes; but what may be JSON from end to end (structured output) is held as such."""

    def __init__(self, masks: Masks, limit: int, counts: Counter[str]) -> None:
        """`limit`: characters that may be held back."""
        self._tail = Tail(masks, limit, counts)
        self._json: Whole | None = Whole(masks, counts)
        self._limit = limit
        self._enough = 0

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return self._tail.held if self._json is None else self._json.held

    def feed(self, piece: str) -> str:
        """Return what may be shown now."""
        if self._json is None:
            return self._tail.feed(piece)
        self._json.feed(piece)
        size = self._json.held
        if size <= min(self._enough, self._limit):
            return ""
        text = self._json.taken()
        if size <= self._limit and _may_be_json(text):
            self._enough = size + size // 8 if size > OFTEN else 0
            return self._json.feed(text)
        self._json = None
        return self._tail.feed(text)

    def end(self) -> str:
        """Return the rest: the text ends here."""
        return self._tail.end() if self._json is None else self._json.end()


class Opaque:
    """Text that a client needs as it is, in one piece; but some servers send a call's id and name with each piece."""

    def __init__(self, masks: Masks, text: str) -> None:
        """Begin with the text; raises Withheld where it holds something sensitive."""
        self._masks = masks
        self._text = text if len(text) <= REPEATED else None
        self._times = 0
        self.again(text)

    def again(self, piece: str) -> None:
        """Raise Withheld for another piece, and where all that came would make something sensitive: clients join it."""
        if self._times and piece != self._text:
            raise Withheld("A name, id or signature in the reply is sent in pieces.")
        self._times += 1
        joined = piece * self._times
        if self._times > 1 and len(joined) > MOST:
            return  # what repeats itself and held nothing so far
        if self._masks.redacted(joined) != joined:
            raise Withheld("The reply holds something sensitive in a place that cannot be masked.")


class Parts:
    """All texts of one reply, each under its key; a text that was ended does not go on."""

    def __init__(self, masks: Masks, limit: int, counts: Counter[str]) -> None:
        """`limit`: characters that may be held back, of all texts together."""
        self._masks = masks
        self._limit = limit
        self._counts = counts
        self._open: dict[int | str | None, dict[Key, Part]] = {}  # by the first of their keys
        self._opaque: dict[Key, Opaque] = {}
        self._begun = 0
        self._ended: set[Key] = set()
        self._held = self._whole = 0

    def text(self, key: Key, piece: str) -> str:
        """Return what may be shown of a piece of text."""
        return self._feed(key, piece, lambda: Prose(self._masks, self._limit, self._counts))

    def json(self, key: Key, piece: str) -> str:
        """Hold a piece of JSON back."""
        return self._feed(key, piece, lambda: Whole(self._masks, self._counts))

    def opaque(self, key: Key, piece: str) -> str:
        """Return a text as it is; raises Withheld for a second piece of it, unless it is the same."""
        if piece and (said := self._opaque.get(key)) is not None:
            said.again(piece)
        elif piece:
            if len(self._opaque) >= MOST:
                raise Withheld("There are too many names in the reply.")
            self._opaque[key] = Opaque(self._masks, piece)
        return piece

    def ended(self, wanted: Callable[[Key], bool] | None = None, *, first: Key = ()) -> list[tuple[Key, str]]:
        """End the texts whose keys are wanted, of those that begin with `first` (one or none), if it is given.

        Returns those with a rest to be shown.
        """
        rests = []
        for group in first or tuple(self._open):
            texts = self._open.get(group, {})
            for key in [key for key in texts if wanted is None or wanted(key)]:
                part = texts.pop(key)
                self._take(part, -part.held)
                self._ended.add(key)
                if rest := part.end():
                    rests.append((key, rest))
            if not texts:
                self._open.pop(group, None)
        return rests

    def _take(self, part: Part, more: int) -> None:
        if isinstance(part, Whole):  # it is looked through once, at its end
            self._whole += more
        else:
            self._held += more

    def _feed(self, key: Key, piece: str, new: Callable[[], Part]) -> str:
        together = self._open.get(key[0], {})
        part = together.get(key)
        if part is None:
            if not piece:
                return ""
            if key in self._ended or self._begun >= MOST or len(together) >= TOGETHER:
                raise Withheld("A text of the reply goes on after its end, or there are too many of them.")
            self._begun += 1
            part = self._open.setdefault(key[0], together)[key] = new()
        before = part.held
        shown = part.feed(piece)
        self._take(part, part.held - before)
        if self._held > self._limit or self._whole > WHOLE * self._limit:
            raise Withheld(f"More than {self._limit} characters of a streamed reply would have to be held back.")
        return shown


def _may_be_json(text: str) -> bool:
    """Say whether all of a text that goes on may be one list or object."""
    begins = _JSON_BEGINS.match(text)
    if begins is None or not begins["begun"]:
        return begins is not None
    start = begins.start("begun")
    end = closing(text, start)
    return not closes(text, start, end) or not text[end:].strip(" \t\r\n")
