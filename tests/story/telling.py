"""How the story is told: chapters, steps with a tick, and what was expected and seen where one fails."""

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

INDENT = Text("     ")


class StoryError(Exception):
    """A step did not go as the story says; it has been told already."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for a step to get its tick."""

    what: str
    expected: str
    seen: str
    holds: bool


def equal(what: str, seen: object, expected: object) -> Check:
    """What was seen is exactly what was expected."""
    return Check(what, str(expected), str(seen), seen == expected)


def mentions(what: str, text: str, *parts: str) -> Check:
    """Each of the parts stands in the text."""
    return Check(what, f"a text with {' and '.join(parts)}", text, all(part in text for part in parts))


def lacks(what: str, text: str, *parts: str) -> Check:
    """None of the parts stands in the text."""
    return Check(what, f"a text without {' or '.join(parts)}", text, not any(part in text for part in parts))


class Teller:
    """Tells the story on a console, counts what was checked, and stops it at the first check that fails."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps = self.checks = self._chapters = 0

    def chapter(self, title: str) -> None:
        """Begins a chapter."""
        self._chapters += 1
        self.console.print()
        self.console.print(Text(f"{self._chapters}. {title}", "bold"))

    def step(self, what: str, saw: str, *checks: Check) -> None:
        """Tells what happened and what was seen of it.

        Raises:
            StoryError: A check does not hold; it has been told which, with what was expected and seen.
        """
        failed = [check for check in checks if not check.holds]
        self.steps += 1
        self.checks += len(checks)
        mark, style = ("✗", "bold red") if failed else ("✓", "bold green")
        self._paragraph(what, "", Text(f"   {mark} ", style))
        self._paragraph(saw, "dim")
        for check in failed:
            self._mourn(check)
        if failed:
            raise StoryError(failed[0].what)

    def line(self, text: str = "", style: str = "") -> None:
        """Says something that needs no tick."""
        self.console.print(Text(text, style))

    def _mourn(self, check: Check) -> None:
        for name, value in (("failed", check.what), ("expected", check.expected), ("seen", check.seen)):
            self._paragraph(f"{name}: {value}", "red")

    def _paragraph(self, text: str, style: str, mark: Text = INDENT) -> None:
        """Prints a text indented and wrapped, with the mark before its first line."""
        room = self.console.width - len(INDENT)
        for number, line in enumerate(Text(text, style).wrap(self.console, room)):
            line.rstrip()
            self.console.print((INDENT if number else mark) + line)
