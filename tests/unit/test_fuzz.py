"""The fuzzer: it finds what is planted, and keeps the input."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fuzz import run, targets
from tests.fuzz.passing import Fields, Masks
from tests.fuzz.session import Session
from tests.unit.house import SECRET

SEED = 7


def forgiving(body: bytes, _headers: Fields) -> Any:
    """Intake, planted: it takes NaN, and of a key that stands twice the last."""
    try:
        message = json.loads(body)
        return SimpleNamespace(message=message, method=message.get("method", "response"), kind="request")
    except (ValueError, AttributeError):
        return "not read"


def shallow(body: bytes, _headers: Fields) -> Any:
    """Intake, planted: it raises over what is nested deeper than it reads."""
    if body.count(b"[") > 60:
        raise RecursionError
    return "not read"


def chunkwise() -> Masks:
    """A masker, planted: it looks at each chunk by itself."""
    return lambda chunk: [chunk.replace(SECRET.encode(), b"[masked]")] if chunk else []


def letting_through() -> Masks:
    """A masker, planted: it masks what it reads on the line of the data, but not in an event without its own type."""
    came = b""

    def masks(chunk: bytes) -> list[bytes]:
        nonlocal came
        came += chunk
        events = [] if chunk else came.split(b"\n\n")
        return [
            (event if b"event" not in event else event.replace(SECRET.encode(), b"[masked]")) + b"\n\n"
            for event in events
            if re.search(rb'(?:^|\n)data: \{"jsonrpc":"2.0","[^\n]*\}\}$', event)
        ]

    return masks


PLANTED: dict[str, tuple[Callable[[bytes], str], str]] = {
    "read in two ways": (partial(targets.intake, forgiving), "AssertionError: (NaN|a key twice)"),
    "raised over nesting": (partial(targets.intake, shallow), "RecursionError"),
    "cut otherwise, masked otherwise": (partial(targets.masker, chunkwise), r"AssertionError: \(b'"),
    "let out": (partial(targets.masker, letting_through), "AssertionError: b'"),
}


@pytest.mark.parametrize(("planted", "error"), PLANTED.values(), ids=PLANTED.keys())
def test_what_is_planted_is_found(planted: targets.Target, error: str, tmp_path: Path) -> None:
    """A fault of each kind is found within a second or two, and its input is kept and breaks it again."""
    running = Session({"intake": planted, "masker": planted}, 10, tmp_path)
    run.by_outcomes(running, SEED)
    assert running.crash is not None
    assert re.match(error, running.crash["error"])
    assert running.report()["seconds"] < 5
    again = Session(running.targets, 1, tmp_path)
    again.run(bytes.fromhex(Path(running.crash["file"]).read_text()))
    assert again.crash == running.crash


def test_nothing_is_found_where_nothing_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: the gateway itself gets through a short run, which reads, refuses, masks and withholds."""
    words = ["--seconds", "1", "--seed", str(SEED), "--crashes", str(tmp_path / "crashes"), "--json"]
    assert run.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["crash"] is None
    assert min(report["runs"].values()) > 20
    assert report["outcomes"] > 10
    kept = (tmp_path / "crashes").glob("*")  # a collection of pytest's own heap can make any input a slow one
    assert all(file.name.startswith("slow-") for file in kept)


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["told", "as JSON"])
def test_a_crash_is_told_and_can_be_replayed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 1 and the report names the file; replayed, the same input fails until it is mended."""
    words = [*words, "--crashes", str(tmp_path)]
    with monkeypatch.context() as planted:
        planted.setattr(targets, "intake", lambda _read, data: PLANTED["read in two ways"][0](data))
        assert run.main([*words, "--seconds", "10", "--seed", str(SEED)]) == 1
        (file,) = tmp_path.glob("crash-*")
        assert str(file) in capsys.readouterr().out
        assert run.main([*words, "--replay", str(file)]) == 1
    assert run.main([*words, "--replay", str(file)]) == 0


def test_two_readings_are_compared_to_the_value() -> None:
    """Types of numbers may differ; true is not 1, and nothing else may."""
    call = {"a": [1, True, None, "x"]}
    assert targets.alike(call, {"a": [1.0, True, None, "x"]})
    assert targets.alike(10**400, 10**400)
    assert targets.alike(Decimal("0.1"), 0.1)
    assert not targets.alike(Decimal("0.1"), 0.2)
    for other in ({"a": [1, 1, None, "x"]}, {"a": [2, True, None, "x"]}, {"a": [1, True, None]}, {"b": 1}, {}):
        assert not targets.alike(call, other)
