"""Accounts, their identifiers and keys, sessions, signing keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, UUID

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", UUID(as_uuid=True), primary_key=True),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("avatar_url", sa.Text, nullable=False, server_default=""),
        sa.Column("status", sa.Text, nullable=False, server_default="active"),
        sa.Column("kyc_tier", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("roles", ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("password_hash", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("username", name="accounts_username_key"),
        sa.CheckConstraint("status IN ('active', 'suspended')", name="accounts_status_check"),
        sa.CheckConstraint("kyc_tier BETWEEN 0 AND 3", name="accounts_kyc_tier_check"),
    )
    op.create_table(
        "person_keys",
        sa.Column("account_id", UUID(as_uuid=True), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "identifiers",
        sa.Column("account_id", UUID(as_uuid=True), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("lookup", sa.LargeBinary, nullable=False),
        sa.Column("lookup_key_id", sa.SmallInteger, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("proven_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("kind IN ('email', 'phone')", name="identifiers_kind_check"),
    )
    op.create_index("identifiers_lookup_idx", "identifiers", ["kind", "lookup"])
    op.create_index(
        "identifiers_proven_key",
        "identifiers",
        ["kind", "lookup"],
        unique=True,
        postgresql_where=sa.text("proven_at IS NOT NULL"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", UUID(as_uuid=True), primary_key=True),
        sa.Column("account_id", UUID(as_uuid=True), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False, server_default="1"),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column(
            "refresh_expires_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
    )
    op.create_index(
        "sessions_account_idx", "sessions", ["account_id"], postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    # What the running role may do; it cannot delete an account or change a schema.
    op.execute("GRANT SELECT, INSERT, UPDATE ON accounts, sessions TO identity")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON identifiers TO identity")
    op.execute("GRANT SELECT, INSERT, DELETE ON person_keys TO identity")
    op.execute("GRANT SELECT, INSERT ON signing_keys TO identity")


def downgrade() -> None:
    for table in ("signing_keys", "sessions", "identifiers", "person_keys", "accounts"):
        op.drop_table(table)
