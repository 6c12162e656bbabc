"""SQL of bills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payment.domain_bills import BillStatus, BillTotals

_COLUMNS = """b.id, b.user_id, b.amount, b.currency, b.description, b.created_at, b.paid_at,
    (SELECT k.wrapped FROM person_keys k WHERE k.user_id = b.user_id) AS wrapped"""

_OPEN = text("INSERT INTO bill_accounts (user_id) VALUES (:user_id) ON CONFLICT DO NOTHING")
# The condition is that of the newest row, also for who waited for its lock: so no two pass the cap together.
_ADD = text("""
    UPDATE bill_accounts SET transactions = transactions + 1, amount = amount + :amount,
        unpaid = unpaid + :amount, version = version + 1
    WHERE user_id = :user_id AND unpaid <= CAST(:cap AS bigint) - :amount RETURNING version
""")
_INSERT = text("""
    INSERT INTO bills (id, user_id, amount, currency, description)
    VALUES (:id, :user_id, :amount, :currency, :description)
""")
_LOCK = text("SELECT version FROM bill_accounts WHERE user_id = :user_id FOR NO KEY UPDATE")
_PAY = text("UPDATE bills SET paid_at = now() WHERE user_id = :user_id AND paid_at IS NULL")
_SETTLE = text("""
    UPDATE bill_accounts SET paid = paid + :bills, unpaid = 0, version = version + 1
    WHERE user_id = :user_id RETURNING version
""")
_ONE = text(f"SELECT {_COLUMNS} FROM bills b WHERE b.id = :id AND b.user_id = :user_id")  # noqa: S608
_PAGE = f"""
    SELECT {_COLUMNS} FROM bills b
    WHERE b.user_id = :user_id AND b.id < CAST(:before AS uuid) {{status}} ORDER BY b.id DESC LIMIT :limit
"""  # noqa: S608 - made of constants
_PAGES = {
    None: text(_PAGE.format(status="")),
    BillStatus.PENDING: text(_PAGE.format(status="AND b.paid_at IS NULL")),
    BillStatus.PAID: text(_PAGE.format(status="AND b.paid_at IS NOT NULL")),
}
_TOTALS = text("""
    SELECT user_id, version, transactions, amount, paid FROM bill_accounts
    WHERE version > 0 AND (CAST(:after AS uuid) IS NULL OR user_id > CAST(:after AS uuid))
    ORDER BY user_id LIMIT :limit
""")
_KEY = text("SELECT wrapped FROM person_keys WHERE user_id = :user_id")
# Above every id.
_END = UUID(int=(1 << 128) - 1)


async def add(connection: AsyncConnection, user_id: UUID, amount: int, cap: int) -> int | None:
    """Counts one more bill of a person; the version of its event, None when it would pass `cap`."""
    await connection.execute(_OPEN, {"user_id": user_id})
    values = {"user_id": user_id, "amount": amount, "cap": cap}
    version: int | None = await connection.scalar(_ADD, values)
    return version


async def insert(
    connection: AsyncConnection,
    bill_id: UUID,
    user_id: UUID,
    amount: int,
    currency: str,
    description: bytes | None,
) -> None:
    """Writes a bill that was counted."""
    values = {
        "id": bill_id,
        "user_id": user_id,
        "amount": amount,
        "currency": currency,
        "description": description,
    }
    await connection.execute(_INSERT, values)


async def pay(connection: AsyncConnection, user_id: UUID) -> tuple[int, int]:
    """Marks a person's pending bills as paid; how many, and the version of the event if any."""
    # Who makes a bill waits until this is committed, or is seen by the next statement. Where there is nothing
    # to lock there is no bill: what comes meanwhile is not touched without the lock, which another may hold.
    if await connection.scalar(_LOCK, {"user_id": user_id}) is None:
        return 0, 0
    bills = (await connection.execute(_PAY, {"user_id": user_id})).rowcount
    if not bills:
        return 0, 0
    version: int = (await connection.execute(_SETTLE, {"user_id": user_id, "bills": bills})).scalar_one()
    return bills, version


async def one(connection: AsyncConnection, user_id: UUID, bill_id: UUID) -> Row[Any] | None:
    """One of a person's bills, with the person's wrapped key."""
    return (await connection.execute(_ONE, {"id": bill_id, "user_id": user_id})).one_or_none()


async def page(
    connection: AsyncConnection, user_id: UUID, before: UUID | None, status: BillStatus | None, limit: int
) -> Sequence[Row[Any]]:
    """A person's bills, the newest first, those before one."""
    values = {"user_id": user_id, "before": before or _END, "limit": limit}
    return (await connection.execute(_PAGES[status], values)).all()


async def totals(connection: AsyncConnection, after: UUID | None, limit: int) -> list[BillTotals]:
    """What people's bills come to, in the order of their ids."""
    rows = await connection.execute(_TOTALS, {"after": after, "limit": limit})
    return [BillTotals(row.user_id, row.version, row.transactions, row.amount, row.paid) for row in rows]


async def person_key(connection: AsyncConnection, user_id: UUID) -> bytes | None:
    """A person's wrapped key."""
    found: bytes | None = await connection.scalar(_KEY, {"user_id": user_id})
    return found
