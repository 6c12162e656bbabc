"""Alembic's environment: the same for every service; the connection comes from services.mesh.migrations."""

from __future__ import annotations

from alembic import context

from services.mesh.outbox import PARTITION_PREFIX


def is_ours(name: str | None, kind: str, _: object) -> bool:
    """Whether the models are to know a table: the outbox's days come and go by themselves."""
    return kind != "table" or not (name or "").startswith(PARTITION_PREFIX)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    transaction_per_migration=True,
    compare_server_default=True,
    include_name=is_ours,
)
with context.begin_transaction():
    context.run_migrations()
