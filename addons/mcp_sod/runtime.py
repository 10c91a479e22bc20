"""The running gateway: what is opened at the start, kept going beside the data path, and closed at the end."""

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import resource
import secrets
from pathlib import Path

from mcp_sod import __version__
from mcp_sod.approval.desk import Desk
from mcp_sod.audit.journal import Journal
from mcp_sod.audit.shipper import ForkError, Shipper
from mcp_sod.audit.store import open_store
from mcp_sod.console.api import build
from mcp_sod.console.server import Server, claim
from mcp_sod.database import Database
from mcp_sod.delivery.deliveries import Deliveries
from mcp_sod.errors import AuditError, PolicyError, SodError, StartError
from mcp_sod.identity.keysets import Fixed
from mcp_sod.identity.minting import Mint, issuer_of
from mcp_sod.identity.revocations import Revocations
from mcp_sod.identity.saml import certificates_are_there
from mcp_sod.identity.tokens import Own, Verifier
from mcp_sod.identity.used_assertions import UsedAssertions
from mcp_sod.intake.routing import addresses
from mcp_sod.policy.load import load, policy_files
from mcp_sod.policy.policy import Policy
from mcp_sod.release.exchanged import ExchangedTokens
from mcp_sod.release.signing import open_signer
from mcp_sod.separation.memory import Memory
from mcp_sod.wire.conversation import Conversations

logger = logging.getLogger("mcp_sod")

WATCH = 1.0  # seconds between two looks at the policy folder
FILES = 65_536  # open files, connections among them, up to which the limit is raised
RETRY = 3  # looks after which a policy that was refused is tried again as it stands


class Runtime:
    """Everything with a life of its own; `policy` and `verifier` change when the folder does."""

    def __init__(self, policy: Policy) -> None:
        """Open all parts; raises SodError naming what cannot be opened."""
        self.policy = policy
        state = _folder(policy.state)
        self._fingerprint_key = _key(state / "keys" / "fingerprint.key")
        self.mint = Mint(state / "keys" / "sign-on.key")
        self.verifier = Verifier(policy, self._fingerprint_key, own=self._own(policy))
        self.ownership_key = _key(state / "keys" / "ownership.key")
        self.conversations = Conversations()
        self.signer = open_signer(state / "keys", _known_as(policy))
        self.exchanged = ExchangedTokens()
        self._console = Server(build(self), claim(*policy.gateway.console_address))
        audit, name = policy.audit, policy.gateway.name
        self.journal = Journal.open(
            state / "spool", name, durability=audit.durability, key=state / "keys" / "audit.key"
        )
        self._store = open_store(audit.store, base=policy.base, days=audit.retention.days, mode=audit.retention.mode)
        self._shipper = Shipper(self.journal, self._store, batch_bytes=8 << 20)
        self.database = Database(state / policy.gateway.database)
        self.used_assertions = UsedAssertions(self.database)
        self.desk = Desk(self.database, self.journal)
        self.deliveries = Deliveries(self.database, self.journal, _key(state / "keys" / "delivery.key"), name)
        self.revocations = Revocations(self.database)
        self.objects = Memory(self.database)
        self.keeps_host = False  # mitmproxy's `keep_host_header`, as it was asked for
        self._fault: str | None = None

    def _own(self, policy: Policy) -> Own:
        """Return the issuers for whom the gateway makes tokens itself; raises PolicyError."""
        certificates_are_there(policy)
        return {saml.entity: (issuer_of(saml), Fixed(self.mint.public)) for saml in policy.document.saml.values()}

    def listed(self, host: str, port: int) -> bool:
        """Say whether an upstream of the policy lives at this address."""
        return (host.lower(), port) in addresses(self.policy)

    def obstacle(self) -> str | None:
        """Say why calls are refused for now for the sake of their records, or None."""
        failing = self._fault or self._shipper.failing
        if failing is None or self._fault:
            return failing
        rule = self.policy.audit.when_unavailable
        if rule == "refuse" or self._shipper.backlog > rule.refuse_after:
            return failing
        return None

    async def begin(self) -> None:
        """Record the start; raises ForkError when the store knows more of this gateway than its state does."""
        try:
            await self._shipper.check()
        except ForkError:
            raise
        except AuditError as error:  # the store is away for now: `obstacle` will say so
            logger.warning("%s", error)
        await self.revocations.look()
        if not self.policy.document.identity:
            logger.warning("Every call is refused until %s names an identity provider.", self.policy.identity_file)
        host, port = self.policy.gateway.console_address
        logger.info("Gateway %s runs by the policy in %s (digest %s); its console is at http://%s:%s.",
                    self.policy.gateway.name, self.policy.folder, self.policy.digest[:16],
                    f"[{host}]" if ":" in host else host, port)  # fmt: skip
        await self.journal.write(
            "started", policy=self.policy.digest, version=__version__, store=self.policy.audit.store
        )
        await self.deliveries.begin()

    async def run(self) -> None:
        """Keep the parts going until cancelled; if one of them ends, calls are refused from then on."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in (
                    self._shipper.run(), self._console.run_here(), self._watch(), self.desk.watch(),
                    self.deliveries.watch(), self.revocations.watch(), self._follow_revocations(),
                ):  # fmt: skip
                    tasks.create_task(part)
        except* Exception as failures:  # noqa: BLE001 (an edge: whatever ended it, nothing goes through any more)
            kinds = ", ".join(type(failure).__name__ for failure in failures.exceptions)
            self._fault = f"a part of the gateway has ended ({kinds})."
            logger.error("The gateway refuses all calls: %s", self._fault)  # noqa: TRY400 (no traceback: no payload)

    async def end(self) -> None:
        """Record the stop, ship what is there, and close."""
        try:
            await self.journal.write("stopped", policy=self.policy.digest)
            await self._shipper.flush()
        except AuditError as error:
            logger.error("At the end: %s", error)  # noqa: TRY400 (no traceback: no payload)
        self.database.close()
        await self.journal.close()
        await self.exchanged.close()

    async def _follow_revocations(self) -> None:
        """Let go of what waits for whoever is revoked, by this process, by another, or by a changed policy."""
        while True:
            await self.revocations.more.wait()
            self.revocations.more.clear()
            listed = self.policy.document.revocation
            try:
                await self.desk.cancel(functools.partial(self.revocations.reaches, listed=listed))
            except SodError as error:  # their calls are refused all the same
                logger.error("Tickets of revoked people could not be cancelled: %s", error)  # noqa: TRY400 (no payload)

    async def _watch(self) -> None:
        """Load the policy anew whenever its folder changes; a bad change is refused and the last good policy stays."""
        seen, refused = _stamp(self.policy.folder), ""
        for look in itertools.count():
            await asyncio.sleep(WATCH)
            stamp = await asyncio.to_thread(_stamp, self.policy.folder)
            if stamp != seen:
                seen, refused = stamp, await self._attempt()
            elif refused and look % RETRY == 0:  # what was amiss may be in a file that the policy refers to
                refused = await self._attempt(refused)

    async def _attempt(self, told: str = "") -> str:
        """Load the policy anew; return why it is refused, or nothing. `told`: what is known to be amiss already."""
        try:
            await self._reload()
        except PolicyError as error:
            if str(error) != told:
                logger.error("The changed policy is refused, the last good one stays:\n%s", error)  # noqa: TRY400
                await self.journal.write("policy refused", policy=self.policy.digest, reason=str(error))
            return str(error)
        return ""

    async def _reload(self) -> None:
        changed = await asyncio.to_thread(load, self.policy.folder)
        if changed.digest == self.policy.digest:
            return
        if (changed.gateway, changed.audit) != (self.policy.gateway, self.policy.audit):
            raise PolicyError("gateway: and audit: cannot change while the gateway runs.", hint="Restart it.")
        verifier = self.verifier.under(changed, self._own(changed))
        await self.journal.write("policy changed", policy=changed.digest, before=self.policy.digest)
        self.policy, self.verifier = changed, verifier
        self.exchanged.forget()
        self.revocations.more.set()  # the list in the policy may be longer
        logger.info("The changed policy is in force (digest %s).", changed.digest[:16])


def open_runtime(folder: Path) -> Runtime:
    """Return the runtime of a policy folder; raises SodError."""
    _raise_limit()
    try:
        return Runtime(load(folder))
    except SodError:
        raise
    except OSError as error:
        raise StartError(f"{error.filename or 'A file'}: {error.strerror}.", hint="Check the state folder.") from None


def _raise_limit() -> None:
    """Let the process open as many files as it may: the usual soft limit is for programs that talk to few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _known_as(policy: Policy) -> str:
    """Return what the gateway calls itself in what it signs: its first public address, or a name made of its own."""
    return next(iter(policy.gateway.public), f"urn:mcp-sod:{policy.gateway.name}")


def _folder(state: Path) -> Path:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        (state / "keys").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartError(f"The state folder {state} cannot be used: {error.strerror}.",
                         hint="Change gateway.state in the policy, or the folder's owner.") from None  # fmt: skip
    return state


def _key(file: Path) -> bytes:
    """Return the key in the file, made at the first start."""
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:  # noqa: PTH123 (mode)
            made.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    key = file.read_bytes()
    if len(key) != 32:
        raise StartError(f"The key file {file} is damaged.", hint="Restore it, or remove it to have a new one made.")
    return key


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...] | str:
    try:
        return tuple((file.name, (found := file.stat()).st_mtime_ns, found.st_size) for file in policy_files(folder))
    except (PolicyError, OSError) as error:
        return str(error)
