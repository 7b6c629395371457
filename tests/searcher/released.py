"""What releases have in their tables, as they wrote it down: ``python tests/searcher/released.py`` records this one's.

An API or a worker of a release that still runs reads and writes those columns, whatever a newer one has added since.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

FOLDER = Path(__file__).parent / "released"
ROWS = 2


def recorded() -> list[Path]:
    """One file for each release whose tables may still be in use, named by their revision."""
    return sorted(FOLDER.glob("*.json"))


def read(path: Path) -> sa.MetaData:
    """The tables of a release."""
    metadata = sa.MetaData()
    for name, columns in json.loads(path.read_text()).items():
        sa.Table(name, metadata, *(sa.Column(column, _type(kind), **about) for column, kind, about in columns))
    return metadata


def record(metadata: sa.MetaData) -> dict[str, list[Any]]:
    """Every table, those that others refer to first, with name, type and constraints of each column."""
    return {
        table.name: [
            [column.name, type(column.type).__name__, {"primary_key": column.primary_key, "nullable": column.nullable}]
            for column in table.columns
        ]
        for table in metadata.sorted_tables
    }


def use(connection: sa.Connection, tables: sa.MetaData, number: int) -> None:
    """Writes, reads, changes and removes rows as a release does: naming every column it knows, and no other.

    Raises:
        SQLAlchemyError: where that cannot be done any more.
        AssertionError: where what is read is not what was written.
    """
    ids = [ROWS * number + row + 1000 for row in range(ROWS)]
    for table in tables.tables.values():
        written = [{column.name: _value(column, each) for column in table.columns} for each in ids]
        written[-1] |= {column.name: None for column in table.columns if column.nullable}
        connection.execute(sa.insert(table), written)
        mine = _rows_of(table, ids)
        for change in ({}, {column.name: column for column in table.columns if not column.primary_key}):
            if change:
                connection.execute(sa.update(table).where(mine).values(change))
            read = connection.execute(sa.select(table).where(mine).order_by(*table.primary_key)).mappings().all()
            assert [dict(row) for row in read] == written, table.name
    for table in reversed(tables.tables.values()):
        assert connection.execute(sa.delete(table).where(_rows_of(table, ids))).rowcount == ROWS, table.name


def _rows_of(table: sa.Table, ids: list[int]) -> sa.ColumnElement[bool]:
    key = next(iter(table.primary_key))
    return key.in_([_value(key, each) for each in ids])


def _value(column: sa.Column[Any], number: int) -> Any:
    """Something a column takes, another for each row; keys of other tables' rows are theirs."""
    return {"Integer": number, "BigInteger": number, "Double": number / 8, "Boolean": True, "JSON": [number]}.get(
        type(column.type).__name__, f"{number:x}"
    )


def _type(kind: str) -> Any:
    return sa.JSON(none_as_null=True) if kind == "JSON" else getattr(sa, kind)()


if __name__ == "__main__":
    from searcher.schema import _head
    from searcher.tables import Base

    FOLDER.mkdir(exist_ok=True)
    lines = (f"  {json.dumps(name)}: {json.dumps(columns)}" for name, columns in record(Base.metadata).items())
    path = FOLDER / f"{_head()}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    sys.stdout.write(f"{path}\n")
