"""What Alembic runs: the chain on the connection that `database.engine` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from allmend.database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
