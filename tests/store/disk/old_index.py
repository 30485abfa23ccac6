"""An index as an older version of the program would have written it."""

from pathlib import Path

from sqlite_utils import Database

from retrieval.store.disk.tables.database import APPLICATION_ID, DATABASE_NAME
from retrieval.store.disk.tables.schema import migrations


def make_older(folder: Path, stop_before: str) -> None:
    """Rewrite an index's database with the tables of an older version.

    Args:
        folder: the index; everything that the old tables have a column for is kept.
        stop_before: name of the first migration that the older version did not have.
    """
    new = folder / DATABASE_NAME
    old = Database(folder / "older.db")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrations.apply(old, stop_before=stop_before)
    old.execute("ATTACH ? AS new", [str(new)])
    known = {name for (name,) in old.execute("SELECT name FROM new.sqlite_master")}
    for table in old.tables:
        if table.name in known and table.name not in ("_sqlite_migrations", "sqlite_sequence"):
            old.execute(f"DELETE FROM main.{table.name}")
            there = {row[1] for row in old.execute(f"PRAGMA new.table_info({table.name})")}
            shared = ", ".join(column.name for column in table.columns if column.name in there)
            old.execute(
                f"INSERT OR IGNORE INTO main.{table.name} ({shared}) "
                f"SELECT {shared} FROM new.{table.name}"
            )
    old.conn.commit()
    old.execute("DETACH new")
    old.execute("VACUUM")
    old.close()
    for log in folder.glob(f"{DATABASE_NAME}-*"):
        log.unlink()
    (folder / "older.db").rename(new)
