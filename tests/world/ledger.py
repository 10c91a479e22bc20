"""The bank's small SQLite database: customers with things worth masking, and payments worth counting."""

import random
import sqlite3
from pathlib import Path
from typing import Any, TypedDict

SCHEMA = """
create table customers (
    id integer primary key, name text, email text, ssn text, card text, iban text, api_key text, password text
);
create table payments (id integer primary key, invoice_id text, amount real, iban text, note text);
"""
INSERT = "insert into customers values (:id, :name, :email, :ssn, :card, :iban, :api_key, :password)"


class Customer(TypedDict):
    """One row of `customers`."""

    id: int
    name: str
    email: str
    ssn: str
    card: str
    iban: str
    api_key: str
    password: str


def _api_key(number: int) -> str:
    # Made, not written down: a literal in this shape would set off secret scanners.
    return "AKIA" + "".join(random.Random(number).choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))  # noqa: S311


# Numbers that pass their checksums and belong to nobody: the card networks' and banks' own test numbers.
CUSTOMERS: tuple[Customer, ...] = (
    Customer(
        id=1,
        name="Ada Marsh",
        email="ada.marsh@customers.example",
        ssn="219-09-9999",
        card="4111 1111 1111 1111",
        iban="DE89370400440532013000",
        api_key=_api_key(1),
        password="correct horse",  # noqa: S106 (a made-up customer's)
    ),
    Customer(
        id=2,
        name="Bo Lindqvist",
        email="bo@customers.example",
        ssn="457-55-5462",
        card="5555 5555 5555 4444",
        iban="GB82WEST12345698765432",
        api_key=_api_key(2),
        password="battery staple",  # noqa: S106 (a made-up customer's)
    ),
)


class Ledger:
    """The file behind the bank, open to several processes at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists():
            self.reset()

    def reset(self) -> None:
        """Brings the tables back to two customers and no payment."""
        self.wipe()
        with self._connect() as db:
            db.executescript(SCHEMA)
            db.executemany(INSERT, CUSTOMERS)
        db.close()

    def wipe(self) -> None:
        """Drops both tables."""
        with self._connect() as db:
            db.executescript("drop table if exists customers; drop table if exists payments;")
        db.close()

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Runs one statement, writes included; gives the rows it returns."""
        with self._connect() as db:
            found = [dict(row) for row in db.execute(sql, parameters)]
        db.close()
        return found

    def payments(self, invoice_id: str | None = None) -> list[dict[str, Any]]:
        """The payments made, all or for one invoice, oldest first."""
        sql = "select * from payments where invoice_id = coalesce(?, invoice_id) order by id"
        return self.rows(sql, invoice_id)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.file, timeout=10)
        db.row_factory = sqlite3.Row
        return db
