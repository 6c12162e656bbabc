"""One effect of many equal requests: the table that remembers what was answered to a `request_id`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID as PGUUID

_NAME = "idempotency"
_INDEX = "idempotency_created_idx"


def _columns() -> tuple[sa.Column[object] | sa.PrimaryKeyConstraint, ...]:
    return (
        # Whose the id is: an account's id, a service's name, or empty for somebody who is not signed in.
        sa.Column("caller", sa.Text, nullable=False),
        # Full name of the method, such as sampan.identity.v1.IdentityService/Register.
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("request_id", PGUUID(as_uuid=True), nullable=False),
        # Keyed hash of the request without its id, so that the same id with another request is refused.
        sa.Column("request_hash", sa.LargeBinary, nullable=False),
        # What is needed to answer once more. Never a token.
        sa.Column("result", sa.LargeBinary, nullable=False, server_default=""),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("caller", "method", "request_id", name="idempotency_pkey"),
    )


def declare(metadata: sa.MetaData) -> sa.Table:
    """The table, for a service's models."""
    table = sa.Table(_NAME, metadata, *_columns())
    sa.Index(_INDEX, table.c.created_at)
    return table


def create(role: str) -> None:
    """Makes the table, in a migration; `role` is the one that the service runs as."""
    from alembic import op

    op.create_table(_NAME, *_columns())
    op.create_index(_INDEX, _NAME, ["created_at"])
    op.execute(f'GRANT SELECT, INSERT, DELETE, UPDATE (result) ON {_NAME} TO "{role}"')


def drop() -> None:
    """Removes the table, in a migration."""
    from alembic import op

    op.drop_table(_NAME)
