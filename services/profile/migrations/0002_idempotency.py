"""What was answered to a `request_id`, in the table that all services have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import idempotency

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    idempotency.create("profile")
    op.drop_column("profiles", "request_hash")
    op.drop_column("profiles", "request_id")


def downgrade() -> None:
    op.add_column("profiles", sa.Column("request_id", UUID(as_uuid=True)))
    op.add_column("profiles", sa.Column("request_hash", sa.LargeBinary))
    idempotency.drop()
