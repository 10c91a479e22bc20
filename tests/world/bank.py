"""An MCP server, built with the official SDK, that holds a bank's customers and payments.

`python -m tests.world.bank --port 9000 --data DIR [--json]` serves it at `/mcp`; `Bank` runs that for a test.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any, cast

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from tests.world.arrivals import Arrivals, Recorder
from tests.world.ledger import Customer, Ledger
from tests.world.process import Process, free_port

TICK = 0.1  # seconds between two progress notifications of slow_report


def build_server(ledger: Ledger) -> MCPServer[Any]:
    """The MCP server over this ledger."""
    server: MCPServer[Any] = MCPServer("bank", instructions="A small bank.", log_level="WARNING")

    @server.tool()
    def list_customers() -> list[Customer]:
        """Every customer with all fields."""
        return [_customer(row) for row in ledger.rows("select * from customers order by id")]

    @server.tool()
    def get_customer(id: int) -> Customer:  # noqa: A002 (the argument's name on the wire)
        """One customer with all fields."""
        found = ledger.rows("select * from customers where id = ?", id)
        if not found:
            message = f"There is no customer {id}."
            raise ToolError(message)
        return _customer(found[0])

    @server.tool()
    def query(sql: str) -> list[dict[str, Any]]:
        """The rows that one SQL statement returns; statements that write are executed too."""
        return ledger.rows(sql)

    @server.tool()
    def pay_invoice(invoice_id: str, amount: float, iban: str, note: str = "") -> dict[str, Any]:
        """Pays an invoice, each time it is called."""
        insert = "insert into payments (invoice_id, amount, iban, note) values (?, ?, ?, ?) returning id"
        payment = ledger.rows(insert, invoice_id, amount, iban, note)[0]
        return {"payment_id": payment["id"], "invoice_id": invoice_id, "amount": amount, "iban": iban}

    @server.tool()
    def drop_database() -> str:
        """Drops every table."""
        ledger.wipe()
        return "gone"

    @server.tool()
    async def slow_report(seconds: float, context: Context[Any, Any]) -> str:
        """A report that takes its time and tells how far it is; each message names a customer."""
        ticks = max(1, round(seconds / TICK))
        email = ledger.rows("select email from customers")[0]["email"]
        for tick in range(ticks):
            await context.report_progress(tick + 1, ticks, f"step {tick + 1} of {ticks}, at {email}")
            await asyncio.sleep(TICK)
        return f"{ticks} steps, written to {email}"

    return server


def _customer(row: dict[str, Any]) -> Customer:
    return cast("Customer", row)  # by the schema, a row's columns are the fields


class Bank(Process):
    """The bank as a process, with what arrived at it and what it has paid."""

    def __init__(self, folder: Path, *, json_replies: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.arrivals = Arrivals(folder / "arrivals.jsonl")
        self.ledger = Ledger(folder / "bank.sqlite")
        command = [sys.executable, "-m", "tests.world.bank", "--port", str(self.port), "--data", str(folder)]
        super().__init__([*command, *(["--json"] if json_replies else [])], folder / "bank.log", ports=[self.port])

    def reset(self) -> None:
        """Forgets what arrived and brings the ledger back to how it began."""
        self.arrivals.forget()
        self.ledger.reset()

    def calls(self) -> list[dict[str, Any]]:
        """The `params` of every `tools/call` that arrived, oldest first."""
        return [one.json["params"] for one in self.arrivals.read() if one.rpc_method == "tools/call"]


def main() -> None:
    """Serves the bank until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="reply with JSON instead of SSE")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    app = build_server(Ledger(arguments.data / "bank.sqlite")).streamable_http_app(json_response=arguments.json)
    recorded = Recorder(app, Arrivals(arguments.data / "arrivals.jsonl"))
    # The grace is short because a client may hold a GET stream open for ever.
    uvicorn.run(recorded, host="127.0.0.1", port=arguments.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
