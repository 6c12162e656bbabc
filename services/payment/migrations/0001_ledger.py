"""Accounts, the ledger, holds, and what the database itself refuses whatever the code does."""

from __future__ import annotations

from alembic import op

from services.mesh import idempotency, outbox
from services.payment.migrations.sql import holds, ledger, posting

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (*ledger.TABLES, ledger.OWN_ACCOUNTS, *holds.TABLES):
        op.execute(statement)
    for name, function in {**ledger.FUNCTIONS, **posting.FUNCTIONS, **holds.FUNCTIONS}.items():
        op.execute(function)
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    for statement in (*ledger.TRIGGERS, *holds.TRIGGERS, *ledger.RIGHTS, *holds.RIGHTS, *posting.RIGHTS):
        op.execute(statement)
    idempotency.create("payment")
    # What was answered is known for ever.
    op.execute("REVOKE DELETE ON idempotency FROM payment")
    outbox.create("payment")


def downgrade() -> None:
    outbox.drop()
    idempotency.drop()
    for table in reversed((*ledger.NAMES, *holds.NAMES)):
        op.drop_table(table)
    for name in (*posting.FUNCTIONS, *holds.FUNCTIONS, *ledger.FUNCTIONS):
        op.execute(f"DROP FUNCTION {name}")
