"""Which version of a person's KYC tier and status this is, and which one payment knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# By a trigger, so that no way of changing either can forget it.
_COUNT = """
CREATE FUNCTION count_standing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.standing_version := OLD.standing_version + 1;
    RETURN NEW;
END $$
"""
_TRIGGER = """
CREATE TRIGGER count_standing BEFORE UPDATE OF kyc_tier, status ON accounts FOR EACH ROW
WHEN ((OLD.kyc_tier, OLD.status) IS DISTINCT FROM (NEW.kyc_tier, NEW.status))
EXECUTE FUNCTION count_standing()
"""


def upgrade() -> None:
    for name in ("standing_version", "standing_told"):
        column = sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        op.add_column("accounts", column)
    # Payment takes everybody for tier 0 and active until it is told otherwise.
    op.execute("UPDATE accounts SET standing_version = 1 WHERE kyc_tier <> 0 OR status <> 'active'")
    op.create_index(
        "accounts_untold_idx",
        "accounts",
        ["id"],
        postgresql_where=sa.text("standing_told < standing_version"),
    )
    op.execute(_COUNT)
    op.execute("REVOKE ALL ON FUNCTION count_standing() FROM PUBLIC")
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER count_standing ON accounts")
    op.execute("DROP FUNCTION count_standing()")
    op.drop_index("accounts_untold_idx", "accounts")
    for name in ("standing_told", "standing_version"):
        op.drop_column("accounts", name)
