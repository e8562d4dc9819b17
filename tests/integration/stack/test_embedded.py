"""The embedded databases do what the rest of the stack takes for granted."""

import psycopg2
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from tests.fixtures.databases import Database, PostgresServer
from tests.fixtures.temporal import TemporalServer


def test_databases_are_apart(postgres: PostgresServer, database: Database) -> None:
    other = postgres.fresh_database()
    for each in (database, other):
        connection = psycopg2.connect(each.dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_database()")
            assert cursor.fetchone() == (each.name,)
        connection.close()
    assert database.name != other.name


async def test_every_namespace_has_the_search_attributes(temporal: TemporalServer) -> None:
    client = await Client.connect(temporal.address)
    for namespace in (temporal.namespace, await temporal.fresh_namespace()):
        listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
        assert set(temporal.settings.search_attributes) <= set(listed.custom_attributes)
