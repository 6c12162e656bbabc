"""One-time codes, rotation of refresh tokens, the numbered log of ended sessions, keys that begin later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "challenges",
        sa.Column("id", UUID(as_uuid=True), primary_key=True),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("lookup", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("code_mac", sa.LargeBinary, nullable=False),
        sa.Column("tries", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spent_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("purpose IN ('login', 'reset')", name="challenges_purpose_check"),
        sa.CheckConstraint("kind IN ('email', 'phone')", name="challenges_kind_check"),
    )
    op.create_index("challenges_lookup_idx", "challenges", ["lookup", "created_at"])
    op.create_index("challenges_expires_idx", "challenges", ["expires_at"])
    op.add_column("sessions", sa.Column("device", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("last_request_id", UUID(as_uuid=True)))
    op.create_table(
        "revocation_head",
        sa.Column("only", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("number", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint('"only"', name="revocation_head_only_check"),
    )
    op.execute("INSERT INTO revocation_head DEFAULT VALUES")
    op.create_table(
        "revocations",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("session_id", UUID(as_uuid=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
    )
    op.add_column(
        "signing_keys",
        sa.Column("active_from", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON challenges TO identity")
    op.execute("GRANT SELECT, UPDATE ON revocation_head TO identity")
    op.execute("GRANT SELECT, INSERT, DELETE ON revocations TO identity")


def downgrade() -> None:
    op.drop_column("signing_keys", "active_from")
    op.drop_table("revocations")
    op.drop_table("revocation_head")
    op.drop_column("sessions", "last_request_id")
    op.drop_column("sessions", "device")
    op.drop_table("challenges")
