"""Up to where each dialog's log was published, and what the relay knows of its stream."""

from __future__ import annotations

from alembic import op

from services.mesh import outbox

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE relayed (
            dialog_id uuid NOT NULL,
            seq bigint NOT NULL,
            CONSTRAINT relayed_pkey PRIMARY KEY (dialog_id)
        ) WITH (fillfactor = 70)
        """
    )
    op.execute("GRANT SELECT, INSERT, UPDATE (seq) ON relayed TO messaging")
    # What was there before anybody listened is learned from a snapshot, not from events.
    op.execute("INSERT INTO relayed (dialog_id, seq) SELECT id, seq FROM dialogs")
    outbox.create_head("messaging")


def downgrade() -> None:
    op.drop_table(outbox.HEAD)
    op.drop_table("relayed")
