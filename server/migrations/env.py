"""Alembic's environment: it migrates on the connection, and in the transaction, that the server hands it."""

from alembic import context

from server.schema import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, _: kind != "schema" or name == SCHEMA,
    transactional_ddl=False,
)
context.run_migrations()
