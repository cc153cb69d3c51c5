"""Asks a Tracehouse server everything that ADBC, pandas and Polars ask.

    adbc.py grpc://127.0.0.1:PORT [TENANT]

Asserts inside; prints `ok`. Works on any data, none included.
Needs: adbc-driver-flightsql adbc-driver-manager pyarrow pandas polars
"""

import datetime
import sys
import warnings

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import polars
import pyarrow

HEADER = adbc_driver_flightsql.DatabaseOptions.RPC_CALL_HEADER_PREFIX.value


def connect(uri, tenant, **options):
    options[HEADER + "x-scope-orgid"] = tenant
    return flightsql.connect(uri, db_kwargs=options, autocommit=True)


def fails(cursor, sql, says, parameters=None):
    try:
        cursor.execute(sql, parameters)
        cursor.fetch_arrow_table()
    except (adbc_driver_manager.Error, pyarrow.ArrowException, OSError) as error:
        assert says in str(error), f"{sql}: {error}"
    else:
        raise AssertionError(f"{sql} did not fail")


def results(cursor):
    cursor.execute("select 1 as n, 'x' as t, now() as at, true as b, null as nothing")
    table = cursor.fetch_arrow_table()
    assert table.num_rows == 1 and table.column_names == ["n", "t", "at", "b", "nothing"], table
    assert table["t"].to_pylist() == ["x"]

    cursor.execute("select * from spans limit 1000")
    table = cursor.fetch_arrow_table()
    table.validate(full=True)
    assert table.schema.field("service_name").type == pyarrow.string(), table.schema
    assert table.schema.field("start_time").type == pyarrow.timestamp("ns", "UTC"), table.schema
    columns = table.column_names
    cursor.execute("select count(*) from spans")
    spans = cursor.fetchone()[0]
    assert table.num_rows == min(spans, 1000)

    cursor.execute("select name, duration_ns, span_attributes->>'http.method' as method, span_attributes->'a' as a from spans limit 10")
    frame = cursor.fetch_df()
    assert list(frame.columns) == ["name", "duration_ns", "method", "a"] and len(frame) == min(spans, 10)

    # Many messages.
    cursor.execute("select value as n, repeat('x', 50) as t from generate_series(1, 200000)")
    table = cursor.fetch_arrow_table()
    assert table.num_rows == 200_000 and table["n"].combine_chunks()[-1].as_py() == 200_000
    cursor.execute("select value from generate_series(1, 1000000000)")
    reader = cursor.fetch_record_batch()
    assert reader.read_next_batch().num_rows > 0
    reader.close()
    return columns


def with_polars(connection):
    frame = polars.read_database("select kind, count(*) as n from spans group by kind order by n", connection)
    assert frame.columns == ["kind", "n"], frame
    frame = polars.read_database("select * from spans limit 10", connection)
    assert frame.schema["trace_id"] == polars.String, frame.schema


def parameters(cursor):
    cursor.execute("select ? + 1 as a, ? as b", [41, "x"])
    assert cursor.fetchall() == [(42, "x")]
    cursor.execute("select $2 as b, $1 as a", (7, "y"))
    assert cursor.fetchall() == [("y", 7)]
    since = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
    cursor.execute("select count(*) from spans where start_time>=? and name<>? and duration_ns between ? and ?", [since, "", 0, 10**15])
    assert cursor.fetchone()[0] >= 0
    cursor.execute("select count(*) from (select 1) where 'a' like ? or 1 in (?, ?) limit ?", ["b%", 2, 3, 5])
    assert cursor.fetchone()[0] == 0
    cursor.execute("select '{\"k\": 1}' ? 'k' as has")
    assert cursor.fetchall() == [(True,)]
    fails(cursor, "select ?, ?", "2 parameters", [1])


def metadata(connection, cursor, columns):
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Tracehouse" and info["vendor_version"], info
    assert "BASE TABLE" in connection.adbc_get_table_types()
    objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    (catalog,) = [c for c in objects if c["catalog_name"] == "tracehouse"]
    schemas = {s["db_schema_name"]: s for s in catalog["catalog_db_schemas"]}
    (spans,) = [t for t in schemas["public"]["db_schema_tables"] if t["table_name"] == "spans"]
    assert spans["table_type"] == "BASE TABLE"
    assert [c["column_name"] for c in spans["table_columns"]] == columns
    filtered = connection.adbc_get_objects(depth="tables", table_name_filter="nope%").read_all().to_pylist()
    assert not [t for c in filtered for s in c["catalog_db_schemas"] or [] for t in s["db_schema_tables"] or []]
    schema = connection.adbc_get_table_schema("spans")
    assert schema.names == columns, schema
    schema = connection.adbc_get_table_schema("spans", catalog_filter="tracehouse", db_schema_filter="public")
    assert schema.field("duration_ns").type == pyarrow.int64()
    schema = cursor.adbc_execute_schema("select name, duration_ns from spans")
    assert schema.names == ["name", "duration_ns"] and schema.types == [pyarrow.string(), pyarrow.int64()], schema
    partitions, schema = cursor.adbc_execute_partitions("select name from spans")
    assert len(partitions) == 1 and schema.names == ["name"]
    cursor.adbc_read_partition(partitions[0])
    assert cursor.fetch_arrow_table().schema == schema


def errors(cursor):
    fails(cursor, "selekt 1", "selekt")
    fails(cursor, "select nope from spans", "nope")
    fails(cursor, "select * from nope", "nope")
    fails(cursor, "select 10 / (value - 50000) from generate_series(1, 100000)", "ivide by zero")
    for sql in ["create table t as select 1", "insert into spans select * from spans", "drop table spans", "set x = 1"]:
        fails(cursor, sql, "read only")
    cursor.execute("select 1")  # and all is well after
    assert cursor.fetchone() == (1,)


def main(uri, tenant="single-tenant"):
    warnings.simplefilter("error")
    with connect(uri, tenant) as connection, connection.cursor() as cursor:
        columns = results(cursor)
        with_polars(connection)
        parameters(cursor)
        metadata(connection, cursor, columns)
        errors(cursor)
    with connect(uri, tenant, username="someone", password="anything") as connection, connection.cursor() as cursor:
        cursor.execute("select 1")
        assert cursor.fetchone() == (1,)
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
