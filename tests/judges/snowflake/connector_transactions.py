"""What two sessions see of each other, and what ends a transaction."""

from account import by_token, one
from proof import attempt, refusal
from snowflake.connector.errors import DatabaseError


def judge(bench):
    other = by_token()
    try:
        table = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR")
        mine, theirs = bench.cursor, other.cursor()
        count = f"SELECT COUNT(*) FROM {table}"

        def isolation():
            mine.execute("BEGIN")
            mine.execute(f"INSERT INTO {table} VALUES (1, 'open')")
            inside, outside = one(mine, count), one(theirs, count)
            bench.connection.rollback()
            return (inside, outside, one(mine, count)), (1, 0, 0)

        attempt("transactions", "own writes are seen, the other's are not, ROLLBACK undoes", isolation)

        def commit():
            mine.execute("BEGIN")
            mine.execute(f"INSERT INTO {table} VALUES (2, 'kept')")
            bench.connection.commit()
            return one(theirs, count), 1

        attempt("transactions", "COMMIT shows the rows to the other session", commit)

        def autocommit():
            bench.connection.autocommit(False)
            mine.execute(f"INSERT INTO {table} VALUES (3, 'undone')")
            bench.connection.rollback()
            undone = one(mine, count)
            mine.execute(f"INSERT INTO {table} VALUES (3, 'kept')")
            unseen = one(theirs, count)
            bench.connection.commit()
            bench.connection.autocommit(True)
            return (undone, unseen, one(theirs, count)), (1, 1, 2)

        attempt("transactions", "AUTOCOMMIT off: nothing stays without commit()", autocommit)

        def ddl():
            mine.execute("BEGIN")
            mine.execute(f"INSERT INTO {table} VALUES (4, 'with DDL')")
            bench.fresh_table("X NUMBER")
            bench.connection.rollback()
            return one(theirs, count), 3

        attempt("transactions", "DDL commits the open transaction", ddl)

        def waits():
            mine.execute("BEGIN")
            mine.execute(f"UPDATE {table} SET NAME = 'mine' WHERE ID = 2")
            theirs.execute("ALTER SESSION SET LOCK_TIMEOUT = 1")
            found = refusal(lambda: theirs.execute(f"UPDATE {table} SET NAME = 'theirs' WHERE ID = 2"), DatabaseError)
            bench.connection.commit()
            theirs.execute(f"UPDATE {table} SET NAME = 'theirs' WHERE ID = 2")
            return (found[0], one(mine, f"SELECT NAME FROM {table} WHERE ID = 2")), (625, "theirs")

        attempt("transactions", "an UPDATE waits for the other's lock, LOCK_TIMEOUT ends the wait with 625", waits)
        attempt("transactions", "CURRENT_TRANSACTION is NULL outside of one", lambda: (
            (one(mine, "SELECT CURRENT_TRANSACTION()"), mine.execute("BEGIN") and one(mine, "SELECT CURRENT_TRANSACTION()") is not None,
             mine.execute("COMMIT") is not None), (None, True, True)))
    finally:
        other.close()
