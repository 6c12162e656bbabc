"""SQL of posting transfers: one round trip for a batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Any, TypeVar

from asyncpg import Record

from services.mesh.fast_database import FastDatabase
from services.payment.domain import Draft, Kind, Posted


class Status(IntEnum):
    """What `post_batch` says of an entry."""

    POSTED = 0
    AGAIN = 1
    REUSED = 2
    NO_WALLET = 3
    OTHER_CURRENCY = 4
    TO_ITSELF = 5
    SUSPENDED = 6
    NO_RECIPIENT = 7
    OVER_LIMIT = 8
    NOT_ENOUGH = 9


Value = TypeVar("Value")
# Sends a statement and its values in one round trip.
Run = Callable[..., Awaitable[list[Record]]]

_POST = """
SELECT * FROM post_batch(
    $1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::uuid[], $7::uuid[], $8::uuid[],
    $9::uuid[], $10::bigint[], $11::text[], $12::bigint[], $13::uuid[], $14::uuid[], $15::uuid[],
    $16::bytea[], $17::text[], $18::bytea[], $19::text[], $20::text)
"""
# The same for payments of people, who own, call and write: what all have in common is said once, since each
# array costs the driver and the server something for each entry.
_SEND = """
SELECT * FROM post_batch(
    $1::uuid[], array_fill('send'::text, ARRAY[cardinality($1)]), $2::uuid[]::text[], $3::uuid[], $4::bytea[],
    $5::uuid[], $2, NULL, $6::uuid[], $7::bigint[], $8::text[],
    coalesce($9::bigint[], array_fill(0::bigint, ARRAY[cardinality($1)])), $10::uuid[], NULL, $2,
    $11::bytea[], array_fill($12::text, ARRAY[cardinality($1)]), $13::bytea[],
    array_fill($14::text, ARRAY[cardinality($1)]), $15::text)
"""
# A fee of the same transaction follows its transfer in the debited account.
_FIND = """
SELECT t.id AS transaction_id, (extract(epoch FROM t.created_at) * 1000000)::bigint AS stamp,
    coalesce(after_fee.balance_after, p.balance_after) AS balance_after, coalesce(fee.amount, 0) AS fee
FROM unnest($1::uuid[]) WITH ORDINALITY AS g (id, ord)
LEFT JOIN transfers t ON t.id = g.id
LEFT JOIN postings p ON p.account_id = t.debit_account AND p.seq = t.debit_seq
LEFT JOIN transfers fee ON fee.transaction_id = g.id AND fee.transaction_id <> fee.id AND fee.kind = 'fee'
LEFT JOIN postings after_fee ON after_fee.account_id = fee.debit_account AND after_fee.seq = fee.debit_seq
ORDER BY g.ord
"""


def _unless_empty(values: list[Value | None]) -> list[Value | None] | None:
    """What no entry of a batch has is not even told."""
    return None if values.count(None) == len(values) else values


def _is_payment(one: Draft) -> bool:
    """Whether a person sends it, and it is told."""
    return one.kind is Kind.SEND and one.told is not None and one.caller == str(one.owner)


def _payments(batch: Sequence[Draft]) -> tuple[str, tuple[Any, ...]]:
    told = [one.told for one in batch if one.told is not None]
    fees = [one.fee for one in batch]
    columns: tuple[Any, ...] = (
        [one.id for one in batch],
        [one.owner for one in batch],
        _unless_empty([one.key for one in batch]),
        _unless_empty([one.request_hash for one in batch]),
        [one.debit for one in batch],
        [one.recipient for one in batch],
        [one.amount for one in batch],
        [one.currency for one in batch],
        fees if any(fees) else None,
        _unless_empty([one.fee_id for one in batch]),
        _unless_empty([one.note for one in batch]),
        told[0].subject,
        [one.payload for one in told],
        # Their event is one, and in one trace.
        max(one.traceparent for one in told),
    )
    return _SEND, columns


def _any(batch: Sequence[Draft]) -> tuple[str, tuple[Any, ...]]:
    told = [one.told for one in batch]
    columns: tuple[Any, ...] = (
        [one.id for one in batch],
        [one.kind for one in batch],
        [one.caller for one in batch],
        _unless_empty([one.key for one in batch]),
        _unless_empty([one.request_hash for one in batch]),
        [one.debit for one in batch],
        _unless_empty([one.owner for one in batch]),
        _unless_empty([one.credit for one in batch]),
        _unless_empty([one.recipient for one in batch]),
        [one.amount for one in batch],
        [one.currency for one in batch],
        [one.fee for one in batch],
        _unless_empty([one.fee_id for one in batch]),
        _unless_empty([one.refers_to for one in batch]),
        _unless_empty([one.person_id for one in batch]),
        _unless_empty([one.note for one in batch]),
        _unless_empty([one and one.subject for one in told]),
        _unless_empty([one and one.payload for one in told]),
        _unless_empty([one and one.traceparent for one in told]),
    )
    return _POST, columns


async def post(run: Run, batch: Sequence[Draft], limits: str) -> list[Posted | Status]:
    """Posts drafts. What became of each, in order: posted, now or before, or why it was refused.

    `limits` is JSON, by currency and tier.
    """
    statement, columns = _payments(batch) if all(map(_is_payment, batch)) else _any(batch)
    [row] = await run(statement, *columns, limits)
    stamp = row["stamp"]
    found: list[Posted | Status] = []
    for place, (draft, status, after) in enumerate(
        zip(batch, row["statuses"], row["balances_after"], strict=True)
    ):
        if status == Status.POSTED:
            found.append(Posted(draft.id, after, draft.fee, stamp))
        elif status == Status.AGAIN:
            found.append(_again(row, place))
        else:
            found.append(Status(status))
    return found


def _again(row: Record, place: int) -> Posted:
    return Posted(
        row["known"][place],
        row["known_balances"][place],
        row["known_fees"][place],
        row["known_stamps"][place],
        again=True,
    )


async def find(database: FastDatabase, drafts: Sequence[Draft]) -> list[Record]:
    """What was posted under the ids of drafts, in order; a row of nulls for what was not."""
    return await database.fetch(_FIND, [one.id for one in drafts])
