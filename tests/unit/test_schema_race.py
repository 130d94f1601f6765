from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from spanwell import schema


@pytest.mark.parametrize("moment", ["application_id", "sqlite_master"])
def test_tables_that_another_process_makes_meanwhile_are_ours(moment: str, tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    quicker = sqlite3.connect(path, isolation_level=None)

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if moment == "sqlite_master" and moment in sql:
                schema.migrate(quicker)
            cursor = super().execute(sql, *args)
            if moment == "application_id" and moment in sql:
                row = cursor.fetchone()
                schema.migrate(quicker)
                return super().execute("SELECT ?", row)
            return cursor

    assert schema.version(Slow(path, isolation_level=None)) == schema.VERSION


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(schema.SchemaError, match="another program"):
        schema.version(connection)
