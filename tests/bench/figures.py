"""What a bench showed, for people and for programs."""

import datetime as dt
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.contenders import MODES
from tests.bench.load import Figures
from tests.bench.tokens import TokenFigures


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one workload: of every contender, round by round."""

    title: str
    rounds: Mapping[str, Sequence[Figures]]

    @property
    def medians(self) -> dict[str, Figures]:
        """The median of each figure over the rounds."""
        parts = ("rate", "p50", "p99")
        return {
            name: Figures(*(statistics.median(getattr(figure, part) for figure in found) for part in parts))
            for name, found in self.rounds.items()
        }

    def ratios(self, mode: str) -> list[float]:
        """The chain's rate over stock's, round by round."""
        pairs = zip(self.rounds[f"chain {mode}"], self.rounds[f"stock {mode}"], strict=True)
        return [chain.rate / stock.rate for chain, stock in pairs]

    def table(self, connections: int) -> str:
        """A table and the two ratios."""
        number = len(next(iter(self.rounds.values())))
        lines = [
            f"{self.title}, {connections} connections, medians of {number} rounds, {today()}, {machine()}",
            f"{'':16}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}",
        ]
        for name, figure in self.medians.items():
            lines.append(f"{name:16}{figure.rate:12.0f}{figure.p50:9.2f}{figure.p99:9.2f}")
        for mode in MODES:
            spread = self.ratios(mode)
            middle = statistics.median(spread)
            lines.append(f"chain / stock, {mode}: {middle:.2f} (rounds {min(spread):.2f} to {max(spread):.2f})")
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """The medians and the ratios, as JSON has them."""
        medians = {name: asdict(figure) for name, figure in self.medians.items()}
        return {"medians": medians, "ratio": {mode: statistics.median(self.ratios(mode)) for mode in MODES}}


def report(outcomes: Sequence[Outcome], tokens: TokenFigures) -> dict[str, Any]:
    """All of it as JSON has it: the first workload's figures at the top, those of each by its title below."""
    by_title = {outcome.title: outcome.facts() for outcome in outcomes}
    facts = {**outcomes[0].facts(), "workloads": by_title, "token_check_us": tokens.facts()}
    return {"date": today(), "machine": machine(), **facts}


def today() -> str:
    """The date, in UTC."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def machine() -> str:
    """What it ran on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
