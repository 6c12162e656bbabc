"""What messaging has consumed, and the channels of a workspace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.mesh import inbox

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "dialogs_workspace_idx",
        "dialogs",
        ["workspace_id"],
        postgresql_where=sa.text("workspace_id IS NOT NULL"),
    )
    inbox.create("messaging")


def downgrade() -> None:
    inbox.drop()
    op.drop_index("dialogs_workspace_idx", "dialogs")
