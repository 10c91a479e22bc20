"""Takes the gateway's tags off what a caller shows, and refuses what is not the caller's."""

from collections.abc import Callable
from dataclasses import replace

from mcp_sod.errors import Denied, Malformed, Removed, Unasked
from mcp_sod.exchange import Outgoing, Request, Standing
from mcp_sod.policy.addresses import target
from mcp_sod.wire.conversation import Conversation
from mcp_sod.wire.headers import encoded
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.ownership import Kind, Owner
from mcp_sod.wire.replies import RELATED_TASK, WATCHED
from mcp_sod.wire.splice import splice
from mcp_sod.wire.strict_json import Json, Path, dumps

MOST_WATCHED = 100  # tasks of one subscription

type Talk = Callable[[str], Conversation]


def stand(call: Call, request: Request, owner: Owner, talk: Talk, *, endpoint: bool) -> tuple[Call, Standing]:
    """Return the call as the server is to read it, and where it stands; raises Foreign, Unasked or Denied.

    `endpoint`: the request's own target is one that a server gave this caller (MCP 2024-11-05).
    """
    if call.stateless and call.method in ("tasks/list", "tasks/result"):
        raise Removed("This method is not part of the revision that the request names.")
    if call.method == "tasks/list":
        raise Denied(
            "tasks/list is not offered here: the list would not tell whose the tasks are.",
            hint="Keep the ids of your tasks, and use tasks/get.",
        )
    path = owner.own("endpoint", target(request.url)) if endpoint else None
    shown = call.header("mcp-session-id")
    if path is not None and shown is not None:
        raise Malformed("The endpoint is the session (2024-11-05): a header names none beside it.")
    session = path or ("" if shown is None else owner.own("session", shown))
    headers = {} if shown is None else {"mcp-session-id": session}
    last = call.header("last-event-id")
    if last is not None:
        headers["last-event-id"] = owner.own("event", last, session)
    if call.name is not None and call.method.startswith("tasks/") and call.is_request:
        headers["mcp-name"] = encoded(owner.own("task", call.name))
    body = _body(call, request, owner)
    if not (path or headers or body) and call.kind != "response":
        return call, Standing(owner, session, talk)
    standing = Standing(owner, session, talk, Outgoing(path, headers, body))
    texts = tuple((name, headers.get(name, text)) for name, text in call.header_texts)
    return replace(call, header_texts=texts, method=_method(call, standing)), standing


def _method(call: Call, standing: Standing) -> str:
    """Return the call's method; of a response, that of the request which it answers."""
    if call.kind != "response" or call.request_id is None:
        return call.method
    asked = standing.conversation.owed(call.request_id)
    if asked is None:
        raise Unasked("This answers nothing that the server asked for here, or it has its answer.")
    return asked


def _body(call: Call, request: Request, owner: Owner) -> bytes | None:
    changes = {path: dumps(owner.own(kind, value)) for path, kind, value in _named(call)}
    return splice(request.body.decode(), changes).encode() if changes else None


def _watched(params: dict[str, Json]) -> list[str]:
    """Return the tasks of which a `subscriptions/listen` wants to hear."""
    filters = params.get("notifications")
    if not isinstance(filters, dict):
        return []
    if any(key != "taskIds" and key.casefold() == "taskids" for key in filters):
        raise Malformed("A key of the subscription differs from MCP's in case alone.")
    tasks = filters.get("taskIds", [])
    texts = [task for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []
    if tasks != texts or len(texts) > MOST_WATCHED:
        raise Malformed(f"The taskIds of a subscription are texts, at most {MOST_WATCHED}.")
    return texts


def _named(call: Call) -> list[tuple[Path, Kind, str]]:
    """Return what the message names that a server gave out: its path, kind and value."""
    found: list[tuple[Path, Kind, Json]] = []
    for part in ("params", "result") if call.envelope else ():
        inside = call.message.get(part)
        if not isinstance(inside, dict):
            continue
        if part == "params":
            found.append((("params", "requestState"), "state", inside.get("requestState")))
            if call.method.startswith("tasks/"):
                found.append((("params", "taskId"), "task", inside.get("taskId")))
            found += [((*WATCHED, index), "task", task) for index, task in enumerate(_watched(inside))]
        meta = inside.get("_meta")
        related = meta.get(RELATED_TASK) if isinstance(meta, dict) else None
        if related is not None:
            found.append(((part, "_meta", RELATED_TASK, "taskId"), "task", _related(related)))
    if any(value is not None and not isinstance(value, str) for _, _, value in found):
        raise Malformed("A request state or a task's id is a text.")
    return [(path, kind, value) for path, kind, value in found if isinstance(value, str)]


def _related(related: Json) -> Json:
    if not isinstance(related, dict) or any(key != "taskId" and key.casefold() == "taskid" for key in related):
        raise Malformed("A related task is an object with a taskId, so written.")
    return related.get("taskId")
