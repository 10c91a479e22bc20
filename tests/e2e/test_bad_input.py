"""Bad input gets a clear error, and loses nothing: once it is mended, the same gateway goes on."""

import asyncio
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from mcp_sod.audit.reader import records, sources
from mcp_sod.audit.store import Store, open_store
from mcp_sod.audit.verify import verify

from tests.world.approver import console, vote
from tests.world.client import environment
from tests.world.echo import Reply
from tests.world.gateway import Gateway
from tests.world.policies import identity
from tests.world.process import Process, free_port
from tests.world.radosgw import RadosGateway
from tests.world.relay import relay
from tests.world.scene import GOOD, SECRET, Scene, passed

type Fault = Callable[[Scene], AbstractContextManager[object]]

RETENTION = 2555  # days, as the default policy asks
A_FOLDER = object()


# at the start


@contextmanager
def instead(path: Path, content: object) -> Iterator[None]:
    """For a while, where a file or folder belongs, there is this: text, a folder, or nothing (None)."""
    aside = path.with_name(f"{path.name}.aside")
    if path.exists():
        path.rename(aside)
    match content:
        case str():
            path.write_text(content)
        case None:
            pass
        case _:
            path.mkdir()
    yield
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if aside.exists():
        aside.rename(path)


def taken(port: int) -> AbstractContextManager[socket.socket]:
    """A port on which a stranger listens."""
    return closing(socket.create_server(("127.0.0.1", port)))


def policy(name: str, content: object) -> Fault:
    """A file of the policy that reads like this."""
    return lambda scene: instead(scene.gateway.policy_folder / name, content)


def state(name: str, content: object) -> Fault:
    """Something in the state folder that is like this."""
    return lambda scene: instead(scene.gateway.state / name, content)


WRONG: dict[str, tuple[Fault, list[str]]] = {
    "a key that is none": (
        policy("rules.yaml", "rules:\n  - id: r\n    actoin: deny\n"),
        ["rules.yaml:3: rules.0.actoin: unknown key. Did you mean action?"],
    ),
    "a role that is none": (
        policy("rules.yaml", "rules:\n  - {id: r, detect: [cloud-key], action: hold, approval: {role: aprover}}\n"),
        ["rules.yaml:2: rules.0: there is no role 'aprover'. Did you mean approver?"],
    ),
    "a pattern that is none": (
        policy("masking.yaml", "masking:\n  - id: m\n    regex: '(x'\n"),
        ["masking.yaml:3: masking.0.regex: is not a regular expression"],
    ),
    "no YAML": (policy("roles.yaml", "roles: {\n"), ["roles.yaml:2: not YAML", "Mend the line."]),
    "no policy folder": (
        lambda scene: instead(scene.gateway.policy_folder, None),
        ["The policy folder", "No such file", "Give another folder."],
    ),
    "an empty policy folder": (
        lambda scene: instead(scene.gateway.policy_folder, A_FOLDER),
        ["holds no .yaml file. Copy policies/ to begin with."],
    ),
    "no key file": (
        lambda scene: instead(scene.issuer.jwks_file, None),
        ["jwks.json of issuer", "is not there. Put the issuer's JWKS there, or correct keys: in identity.yaml."],
    ),
    "a file for a state folder": (
        lambda scene: instead(scene.gateway.state, "not a folder"),
        ["The state folder", "cannot be used", "Change gateway.state in the policy, or the folder's owner."],
    ),
    "a file for a spool": (state("spool", "not a folder"), ["The spool", "cannot be opened", "Check the folder"]),
    "no tickets in their file": (
        state("tickets.sqlite", "no database at all\n" * 99),
        ["The database", "tickets.sqlite cannot be used", "Check the file and its folder."],
    ),
    "half a fingerprint key": (
        state("keys/fingerprint.key", "half"),
        ["fingerprint.key is damaged. Restore it, or remove it to have a new one made."],
    ),
    "no audit key any more": (state("keys/audit.key", None), ["audit.key", "estore"]),
    "a console port in use": (
        lambda scene: taken(scene.gateway.console_port),
        ["The console cannot listen on 127.0.0.1:", "End what uses the port, or change gateway.console in the policy."],
    ),
    "a listening port in use": (
        lambda scene: taken(scene.gateway.port),
        ["failed to listen on 127.0.0.1:", "Try specifying a different port"],
    ),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that has run before and let a call through, and does not run now."""
    with Scene(tmp_path_factory.mktemp("stopped")) as scene:
        assert passed(scene.call())
        scene.gateway.stop()
        yield scene


def run_to_its_end(gateway: Gateway) -> int:
    """Starts a gateway that will end by itself, without a look at its ports; gives its exit status."""
    ports, gateway.ports = gateway.ports, ()
    try:
        with gateway:
            return gateway.wait(15)
    finally:
        gateway.ports = ports


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_at_the_start_is_named(stopped: Scene, kind: str) -> None:
    """The gateway ends with an error status, and its log says what is wrong, where, and what to do."""
    fault, words = WRONG[kind]
    before = len(stopped.gateway.log)
    with fault(stopped):
        assert run_to_its_end(stopped.gateway) == 1
    said = " ".join(stopped.gateway.log[before:].split())
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(("content", "code"), [("not JSON", "unavailable"), ('{"keys": []}', "unauthenticated")])
def test_a_key_file_without_keys_lets_nobody_in(stopped: Scene, content: str, code: str) -> None:
    """With a key file that holds no keys the gateway starts and refuses calls with the reason."""
    with instead(stopped.issuer.jwks_file, content), stopped.gateway:
        seen = stopped.watch()
        said = stopped.call().text
        assert {
            "unavailable": "The identity provider's keys cannot be had.",
            "unauthenticated": "The token is signed with a key that its issuer does not publish.",
        }[code] in said
        reason = seen.record(code=code)["reason"]
        assert (f"Check {stopped.issuer.jwks_file}: no JSON." in reason) == (code == "unavailable")
        assert str(stopped.issuer.jwks_file) not in said  # a path is the operator's business
        assert seen.connections == 0


def test_once_mended_the_gateway_starts(stopped: Scene) -> None:
    """Once all of that is mended the same gateway lets a call through, and its records are whole: no fault cost one."""
    with stopped.gateway:
        assert passed(stopped.call())
    assert_whole(stopped, open_store(f"file:{stopped.store}", base=Path(), days=RETENTION))


def test_without_identity_provider_every_call_is_refused(tmp_path: Path) -> None:
    """With no identity provider the gateway starts and refuses calls, naming the file to edit; filled in, they pass."""
    with Scene(tmp_path, identity={"identity": []}) as scene:
        seen, file = scene.watch(), scene.gateway.policy_folder / "identity.yaml"
        said = scene.call().json()["result"]["content"][0]["text"]
        assert (
            "No identity provider is configured, so every call is refused. Fill in identity: in identity.yaml." in said
        )
        assert f"Every call is refused until {file} names an identity provider." in scene.gateway.log
        assert seen.record(event="denied", code="unavailable")
        assert seen.connections == 0
        scene.gateway.write_policy({"identity.yaml": identity(scene.issuer)})
        assert seen.record(event="policy changed")
        assert passed(scene.call())


# while it runs


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway whose policy is about to be changed."""
    with Scene(tmp_path_factory.mktemp("running")) as scene:
        yield scene


@contextmanager
def changed(scene: Scene, file: str, text: str) -> Iterator[None]:
    """For a while a file of the running gateway's policy reads like this."""
    before = (scene.gateway.policy_folder / file).read_text()
    scene.gateway.write_policy({file: text})
    yield
    scene.gateway.write_policy({file: before})


BAD = {
    "a key that is none": ("rules.yaml", "rules: [{id: r, actoin: deny}]", "rules.yaml:1: rules.0.actoin: unknown key"),
    "no YAML": ("rules.yaml", "rules: [", "rules.yaml:2: not YAML"),
    "a file that got lost": ("roles.yaml", "", "roles: is missing"),
    "no more roles": (
        "roles.yaml",
        "roles: {}\npermissions: {}\nseparation: {}\ndelivery: {}\nrevocation: {}",
        "there is no role",
    ),
    "a key file that is none": (
        "identity.yaml",
        "identity: [{issuer: i, audience: [a], keys: {file: none.json}, machine: none}]",
        "none.json of issuer i is not there.",
    ),
    "another gateway:": (
        "gateway.yaml",
        "version: 1\ngateway: {name: other}\nupstreams: {tools: {url: 'http://127.0.0.1:9/mcp', speaks: mcp}}",
        "gateway: and audit: cannot change while the gateway runs. Restart it.",
    ),
    "another audit:": (
        "audit.yaml",
        "audit: {store: 'file:elsewhere'}",
        "gateway: and audit: cannot change while the gateway runs. Restart it.",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_change_is_refused_and_the_last_good_policy_stays(running: Scene, kind: str) -> None:
    """A policy that cannot be used is refused, on record and in the log with its reason; calls pass as before."""
    file, text, reason = BAD[kind]
    in_force = running.trail.read()[0]["policy"]
    seen = running.watch()
    with changed(running, file, text):
        refused = seen.record(event="policy refused", patience=3)
        assert passed(running.call())
    assert reason in refused["reason"]
    assert reason in running.gateway.log
    assert {record["policy"] for record in seen.records} == {in_force}


def test_a_good_change_is_in_force_within_seconds(running: Scene) -> None:
    """A changed policy is in force within three seconds, on record with both digests, and so is its way back."""
    deny = yaml.safe_dump({"rules": [{"id": "r", "where": {"tools": ["get_customer"]}, "action": "deny"}]})
    seen = running.watch()
    assert passed(running.call())
    with changed(running, "rules.yaml", deny):
        there = seen.record(event="policy changed", patience=3)
        assert '"denied"' in running.call().text
    back = seen.record(event="policy changed", policy=there["before"], patience=3)
    assert back["before"] == there["policy"]
    assert passed(running.call())
    assert len(seen.arrived) == 2


# a full disk


@contextmanager
def full_disk(process: Process) -> Iterator[None]:
    """For a while no file that a process writes can grow: a full disk, but for the error's number (EFBIG)."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_calls_until_there_is_room(tmp_path: Path) -> None:
    """Where nothing can be written nothing is forwarded; with room again calls pass by themselves, the log is whole."""
    risky = {"key": SECRET}
    with Scene(tmp_path) as scene:
        seen = scene.watch()
        assert passed(scene.call())
        ticket = scene.call("note", risky).json()["result"]["_meta"]["mcp-sod/ticket"]
        with full_disk(scene.gateway):
            for arguments in ({}, {**risky, "another": 1}):
                reply = scene.call("note", arguments).text
                assert '"unavailable"' in reply
                assert "Make room on that disk." in reply
            assert vote(scene, ticket).status_code >= 500
            assert console(scene, "GET", f"tickets/{ticket}").json()["state"] == "pending"
        assert len(seen.arrived) == 1
        eventually(lambda: passed(scene.call()))
        assert vote(scene, ticket).json()["state"] == "approved"
        assert passed(scene.call("note", risky))
        a_reply_that_cannot_be_recorded_is_not_delivered(scene)
        assert seen.events().count("forwarded") == len(seen.arrived)
        scene.gateway.stop()
        assert_whole(scene, open_store(f"file:{scene.store}", base=Path(), days=RETENTION))


def a_reply_that_cannot_be_recorded_is_not_delivered(scene: Scene) -> None:
    """If the disk fills up while the upstream works, its reply is withheld; without that, it comes."""
    slow = Reply((0.5, *GOOD.parts))
    with ThreadPoolExecutor(1) as callers:
        for full in (True, False):
            seen = scene.watch()
            waiting = callers.submit(scene.call, reply=slow)
            assert seen.record(event="forwarded")
            with full_disk(scene.gateway) if full else nullcontext():
                reply = waiting.result()
            assert passed(reply) != full, reply.text
            assert SECRET not in reply.text


# a bucket that is away


def bucket(name: str, rule: object) -> dict[str, Any]:
    """The audit section that keeps its records in this bucket."""
    return {"audit": {"store": f"s3://{name}/gw", "when_unavailable": rule}}


def at(port: int) -> dict[str, str | None]:
    """The environment in which S3 is there."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ENDPOINT_URL_S3": None,
        "AWS_PROFILE": None,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def test_without_its_bucket_the_gateway_refuses_calls(tmp_path: Path) -> None:
    """With `refuse`, from the first call on nothing goes through while the bucket is away; the spool keeps that."""
    with Scene(tmp_path, audit=bucket("away", "refuse"), env=at(free_port())) as scene:
        seen = scene.watch()
        said = scene.call().text
        assert "The audit store takes no records for now." in said
        reason = seen.record(event="denied", code="unavailable")["reason"]
        assert "The bucket away cannot be reached: EndpointConnectionError." in reason
        assert seen.connections == 0


def test_without_its_bucket_the_gateway_goes_on_as_far_as_it_may(tmp_path: Path) -> None:
    """With `refuse_after`, calls pass while the bucket is away until so much waits in the spool, and no longer."""
    with Scene(tmp_path, audit=bucket("away", {"refuse_after": "8KiB"}), env=at(free_port())) as scene:
        seen = scene.watch()
        passes = [passed(scene.call()) for _ in range(12)]
        assert passes == sorted(passes, reverse=True)
        assert 1 < len(seen.arrived) == passes.count(True) < len(passes)
        assert "The audit store takes no records" in scene.call().text
        assert seen.events().count("forwarded") == len(seen.arrived)


@pytest.mark.radosgw
async def test_calls_pass_again_once_the_bucket_is_there(radosgw: RadosGateway, tmp_path: Path) -> None:
    """When the bucket can be reached again, calls pass by themselves, and all records arrive, the refusals' too."""
    name, port = f"b{uuid4().hex[:12]}", free_port()
    await asyncio.to_thread(radosgw.create_locked_bucket, name, RETENTION)
    keys = {**at(port), **radosgw.credentials("writer"), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    with Scene(tmp_path, audit=bucket(name, "refuse"), env=keys) as scene:
        assert "The audit store takes no records" in scene.call().text
        assert scene.echo.arrived == []
        async with relay(port, to=radosgw.port):
            await asyncio.to_thread(eventually, lambda: passed(scene.call()))
            await asyncio.to_thread(scene.gateway.stop)
        with environment({**at(radosgw.port), **radosgw.credentials("auditor")}):
            store = open_store(f"s3://{name}/gw", base=Path(), days=RETENTION)
        await asyncio.to_thread(assert_whole, scene, store)
        events = [record["event"] for record in records(store, sources(store)[0][0])]
        assert {"denied", "forwarded", "stopped"} <= set(events)


# what the tests share


def eventually(condition: Callable[[], bool], patience: float = 20) -> None:
    """Waits until it is so."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never was"
        time.sleep(0.1)


def assert_whole(scene: Scene, store: Store) -> None:
    """What the gateway has put into its store verifies: nothing is lost, nothing altered."""
    report = verify(store, (scene.state / "keys" / "audit.key.pub").read_text())
    assert report.problems == ()
    assert report.records
