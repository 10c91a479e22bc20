"""The whole product on one page: which stages a message passes, in which order, and how they are put in place."""

import asyncio
import gc
import logging
from pathlib import Path

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.hooks import Hook, UpdateHook
from mitmproxy.proxy.layers.http import _http1, _http2, _http3

from mcp_sod.approval.addon import Approval
from mcp_sod.arrival.addon import Arrival, bound_memory
from mcp_sod.audit.addon import Audit
from mcp_sod.delivery.addon import Delivery, Recipient
from mcp_sod.discretion import Discretion, Lossy, error_page
from mcp_sod.errors import SodError, StartError
from mcp_sod.gate import Gate
from mcp_sod.identity.addon import Identity, Metadata
from mcp_sod.intake.addon import Intake
from mcp_sod.intake.routing import addresses
from mcp_sod.masking.addon import Masking
from mcp_sod.options import complaint, forced, unknown
from mcp_sod.policy.model import Limits
from mcp_sod.policy.policy import Policy
from mcp_sod.release.addon import Release
from mcp_sod.risk.addon import Risk
from mcp_sod.roles.addon import Roles
from mcp_sod.runtime import Runtime, open_runtime
from mcp_sod.separation.addon import Claims, Separation
from mcp_sod.sessions.addon import Sessions
from mcp_sod.stage import Stage
from mcp_sod.streaming.addon import look_after_streams

logger = logging.getLogger("mcp_sod")

# What is left of mitmproxy's own addons. The others can undo the policy (map_remote, modify_body, replay, stickyauth,
# save, …), or print payloads (dumper), and cost over 40 % of the time.
KEPT_ADDONS = frozenset({
    "termlog", "core", "proxyserver", "scriptloader", "dnsresolver", "nextlayer", "tlsconfig", "keepserving",
    "errorcheck",
})  # fmt: skip
# What still has something to do once mitmproxy runs. Every entry of its chain costs time at every event, so these
# become one; the script comes last in it, because an addon that fails takes the later ones of its entry with it.
BUSY_ADDONS = ("proxyserver", "nextlayer", "tlsconfig", Arrival.name, "scriptloader")


def stages(gate: Gate, runtime: Runtime) -> list[Stage]:
    """Return the stages; requests pass from top to bottom, and so do replies (each stage has its part in either)."""
    return [
        Metadata(gate),  #                          where tokens come from (RFC 9728)
        Intake(gate),  #                            bytes → one Call; the reply's kind
        Identity(gate, lambda: runtime.verifier, runtime.revocations, lambda: runtime.policy),  # token → Principal
        Sessions(gate, runtime.ownership_key, runtime.conversations),  # whose session, event, task it is
        Masking(gate),  #                           what records and approvers may see; the reply, masked
        Roles(gate),  #                             groups → roles; separation; permission
        Recipient(gate),  #                         who gets the result: the sender, or whoever holds a role
        Separation(gate, runtime.objects),  #       who did what to the object before; checked, not yet claimed
        Risk(gate),  #                              rules → findings and a verdict
        Approval(gate, runtime.desk),  #            Hold → ticket, wait, grant
        Claims(gate, runtime.objects),  #           who does what to which object, durable; what the result tells
        Delivery(gate, runtime.deliveries, runtime.obstacle),  # a result for someone else: expected, kept; collected
        Audit(gate, runtime.journal, runtime.obstacle),  # the intent, durable; the outcome, durable
        # credentials changed; the gate may open
        Release(gate, runtime.exchanged, runtime.signer, keeps_host=runtime.keeps_host),
    ]


class Chain:
    """What the script loads: finds or builds the gate, and stands the stages before it.

    The gate and the runtime are entries of their own: they outlive this script when it is changed, breaks or vanishes.
    """

    name = "sod"

    def __init__(self) -> None:
        """Begin with no stages: until `load` is through, everything is refused."""
        self.stages: list[Stage] = []  # not `addons`, which mitmproxy would walk at each of its many events

    def load(self, loader: Loader) -> None:
        """Put everything in place; a fault is logged, which ends mitmdump at its start, and keeps the gate shut."""
        loader.add_option("sod_policy", str, "", "The folder with the policy (default: the bundled policies).")
        gate: Gate = ctx.master.addons.get(Gate.name) or _install()  # type: ignore[no-untyped-call]
        if isinstance(gate.runtime, Runtime):
            self.stages = stages(gate, gate.runtime)

    async def request(self, flow: http.HTTPFlow) -> None:
        """Lead a request from stage to stage."""
        await self._each("request", flow)

    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Lead the head of a reply from stage to stage."""
        await self._each("responseheaders", flow)

    async def response(self, flow: http.HTTPFlow) -> None:
        """Lead a reply from stage to stage."""
        await self._each("response", flow)
        await self._each("over", flow)

    async def error(self, flow: http.HTTPFlow) -> None:
        """Let the stages know of a request that ended otherwise."""
        await self._each("over", flow)

    async def _each(self, event: str, flow: http.HTTPFlow) -> None:
        for stage in tuple(self.stages):
            hook = getattr(stage, event, None)
            waiting = None if hook is None else hook(flow)
            if waiting is not None:
                await waiting


def policy_folder(option: str) -> Path:
    """Return the policy folder that the option names, or the one that came with this package."""
    if option:
        return Path(option).expanduser()
    checkout = Path(__file__).parents[2] / "policies"
    return checkout if checkout.is_dir() else Path(__file__).parent / "default_policy"


class Busy:
    """The entry of the chain that holds what is left of mitmproxy's own addons."""

    name = "sod-busy"

    def __init__(self, addons: list[object]) -> None:
        """Hold them in this order."""
        self.addons = addons


def _install() -> Gate:
    manager = ctx.master.addons
    for name, addon in list(manager.lookup.items()):
        if addon in manager.chain and name not in KEPT_ADDONS:
            # Not `remove`: it would call hooks that only async code may call.
            manager.chain = [other for other in manager.chain if other is not addon]
            del manager.lookup[name]
    manager.trigger_event = _ask_everyone  # type: ignore[method-assign]
    for handler in logging.getLogger().handlers:
        handler.addFilter(Discretion())
    for protocol in (_http1, _http2, _http3):
        vars(protocol)["format_error"] = error_page
    terminal = manager.get("termlog").logger  # type: ignore[no-untyped-call]
    terminal.file = Lossy(terminal.file)
    bound_memory()
    look_after_streams()
    runtime = _opened()
    gate = Gate(runtime, settled=_settle_chain)
    limits = Limits() if runtime is None else runtime.policy.gateway.limits
    manager.add(Arrival(gate, limits.arrival), gate)  # type: ignore[no-untyped-call]
    return gate


async def _ask_everyone(event: Hook) -> None:
    """Ask every entry of the chain, in place of mitmproxy's `trigger_event`.

    There, an addon's AddonHalt ends the event before the gate is asked, and an OptionsError or a cancellation leaves
    the flow hanging, with no record. And every event is followed by an `update` for user interfaces, of which there
    is none here: leaving it out halves the events.
    """
    if isinstance(event, UpdateHook):
        return
    manager = ctx.master.addons
    for entry in manager.chain:
        try:
            await manager.invoke_addon(entry, event)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (an edge: the gate is asked all the same)
            logger.error("An addon failed at %s: %s", event.name, type(error).__name__)  # noqa: TRY400 (no payload)


def _settle_chain() -> None:
    """Leave two entries, what is busy and the gate behind it; and let Python's collector forget what stays for good."""
    manager = ctx.master.addons
    manager.chain = [Busy([manager.lookup[name] for name in BUSY_ADDONS]), manager.lookup[Gate.name]]
    gc.collect()
    gc.freeze()  # it would walk all of the modules again and again while calls pass


def _opened() -> Runtime | None:
    try:
        runtime = open_runtime(policy_folder(_given()))
        runtime.keeps_host = ctx.options.keep_host_header
        _settle_options(runtime.policy)
    except SodError as error:
        logger.error("The gateway cannot start.\n%s", error)  # noqa: TRY400 (the sentence says what to do)
        return None
    return runtime


def _given() -> str:
    """Return `sod_policy`, which mitmproxy reads only now; an error in it would leave mitmproxy running without us."""
    options = ctx.master.options
    try:
        options.process_deferred()
    except OptionsError as error:
        options.deferred.clear()
        raise StartError(f"mitmproxy's options cannot be read: {error}.", hint="Give each --set once.") from None
    wrong = unknown(options.deferred)
    if wrong is not None:
        raise wrong
    given: str = ctx.options.sod_policy
    return given


def _settle_options(policy: Policy) -> None:
    options, limit = ctx.options, policy.gateway.limits.body
    known = [(name, getattr(options, name), options.default(name)) for name in options.keys()]  # type: ignore[no-untyped-call]  # noqa: SIM118
    wrong = complaint(known, limit, addresses(policy))
    if wrong is not None:
        raise wrong
    options.update(**forced(limit))  # type: ignore[no-untyped-call]
