"""The migration chain (Alembic). Run by `database.engine` when a database's version is not `schema.HEAD`."""
