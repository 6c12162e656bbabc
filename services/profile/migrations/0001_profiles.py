"""Profiles and the keys of their bank details."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What a person may change; whose a profile is never changes.
CHANGING = (
    "display_name, bio, avatar_url, bank_account_name, bank_account_holder, bank_account_number, updated_at"
)


def upgrade() -> None:
    op.create_table(
        "profiles",
        sa.Column("id", UUID(as_uuid=True), primary_key=True),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("bio", sa.Text, nullable=False, server_default=""),
        sa.Column("avatar_url", sa.Text, nullable=False, server_default=""),
        sa.Column("bank_account_name", sa.LargeBinary),
        sa.Column("bank_account_holder", sa.LargeBinary),
        sa.Column("bank_account_number", sa.LargeBinary),
        sa.Column("request_id", UUID(as_uuid=True)),
        sa.Column("request_hash", sa.LargeBinary),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("user_id", name="profiles_user_id_key"),
    )
    op.create_table(
        "person_keys",
        sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey("profiles.user_id"), primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
    )
    op.execute("GRANT SELECT, INSERT, DELETE ON profiles, person_keys TO profile")
    op.execute(f"GRANT UPDATE ({CHANGING}) ON profiles TO profile")


def downgrade() -> None:
    for table in ("person_keys", "profiles"):
        op.drop_table(table)
