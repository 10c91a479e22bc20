"""The parts of the world that tests share, each started once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import radosgw as ceph
from tests.world.bank import Bank
from tests.world.echo import Echo
from tests.world.issuer import Issuer
from tests.world.radosgw import RadosGateway

SKIP_NOTHING = bool(os.environ.get("SOD_SKIP_NOTHING"))


@pytest.fixture(scope="session")
def bank_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """The bank's process, shared."""
    with Bank(tmp_path_factory.mktemp("bank")) as bank:
        yield bank


@pytest.fixture
def bank(bank_process: Bank) -> Bank:
    """The bank as it began: nothing has arrived, nothing is paid."""
    bank_process.reset()
    return bank_process


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """An identity provider with fresh keys."""
    return Issuer(tmp_path / "issuer")


@pytest.fixture
def echo() -> Iterator[Echo]:
    """An upstream whose replies the test scripts."""
    with Echo() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RadosGateway]:
    """A real object store with Object Lock; skips without Ceph, unless nothing may be skipped."""
    if not ceph.available():
        missing = "ceph-mon, ceph-osd, ceph-common and radosgw are not all installed"
        (pytest.fail if SKIP_NOTHING else pytest.skip)(missing)
    with RadosGateway(tmp_path_factory.mktemp("radosgw")) as server:
        yield server
