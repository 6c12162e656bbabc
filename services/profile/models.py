"""Tables of profile."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import UUID

metadata = MetaData()


def _moment(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


profiles = Table(
    "profiles",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    # Of identity, which has its own database: no foreign key.
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("bio", Text, nullable=False, server_default=""),
    Column("avatar_url", Text, nullable=False, server_default=""),
    # Sealed with the person's key; null when empty.
    Column("bank_account_name", LargeBinary),
    Column("bank_account_holder", LargeBinary),
    Column("bank_account_number", LargeBinary),
    # By which request it was made, and a keyed hash of that, so that the same one is answered again.
    Column("request_id", UUID(as_uuid=True)),
    Column("request_hash", LargeBinary),
    _moment("created_at"),
    _moment("updated_at"),
    UniqueConstraint("user_id", name="profiles_user_id_key"),
)

# One data key a person, wrapped by the master key. Deleting the row makes what it sealed unreadable.
person_keys = Table(
    "person_keys",
    metadata,
    Column("user_id", UUID(as_uuid=True), ForeignKey("profiles.user_id"), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)
