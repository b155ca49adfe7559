"""An event and a row of your own database, both or neither; and a handler whose effect is exact.

Two SQLite files stand for two systems: `app.db` is the application's database, `log.db` the bus's
log. `publish(event, transaction=connection)` writes the event as a row of the application's own
transaction; a running bus takes it from there into the log. A handler with `transaction=connect`
notes each event that it has handled in the transaction of its effect.
"""

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from headwater import Bus, Context, event


@event(name="user.registered", key="user")
@dataclass(frozen=True)
class UserRegistered:
    user: str


def register(web: Bus, connection: sqlite3.Connection, user: str) -> None:
    """Store a user and the event, in one transaction."""
    try:
        with connection:
            web.publish(UserRegistered(user), transaction=connection)
            connection.execute("INSERT INTO users VALUES(?)", (user,))
        print(f"registered {user}")
    except sqlite3.IntegrityError as error:
        print(f"refused {user}: {error}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).as_posix()

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(f"{folder}/app.db")

        def open_account(registered: UserRegistered, context: Context) -> None:
            context.transaction.execute("INSERT INTO accounts VALUES(?, 0)", (registered.user,))
            print(f"opened an account for {registered.user}")

        with closing(connect()) as connection:
            connection.execute("CREATE TABLE users(name TEXT PRIMARY KEY)")
            connection.execute("CREATE TABLE accounts(name TEXT, pounds INTEGER)")

            bus = Bus(f"sqlite:///{folder}/log.db", name="bank")
            bus.subscribe(UserRegistered, open_account, name="accounts", transaction=connect)
            with bus:  # Makes the tables of the outbox and the inbox in app.db.
                web = Bus(f"sqlite:///{folder}/log.db", name="bank")  # in another process, say
                for user in ("Ada", "Grace", "Ada"):
                    register(web, connection, user)
                    bus.idle(10)
                web.close()

            print("users:   ", connection.execute("SELECT name FROM users").fetchall())
            print("accounts:", connection.execute("SELECT name FROM accounts").fetchall())


if __name__ == "__main__":
    main()
