"""What people want to show of themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import idempotency

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "preferences",
        sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
        sa.Column("last_seen_hidden", sa.Boolean, nullable=False, server_default="false"),
        sa.Column("invisible", sa.Boolean, nullable=False, server_default="false"),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()
        ),
    )
    op.create_index("preferences_updated_idx", "preferences", ["updated_at"])
    op.execute("GRANT SELECT, INSERT ON preferences TO presence")
    op.execute("GRANT UPDATE (last_seen_hidden, invisible, updated_at) ON preferences TO presence")
    idempotency.create("presence")


def downgrade() -> None:
    idempotency.drop()
    op.drop_table("preferences")
