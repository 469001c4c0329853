"""Write a migration from the difference between the last one and `tables.py`."""

import sys

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from arena.log import schema_version


def main(message: str) -> None:
    """Upgrade an empty database to the newest script, compare, and write the next script."""
    config = Config()
    config.set_main_option("script_location", schema_version.MIGRATIONS)
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    heads = ScriptDirectory.from_config(config).get_heads()
    number = f"v{max((int(head[1:]) for head in heads), default=0) + 1:04d}"
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        if heads:
            schema_version.upgrade(connection)
        command.revision(config, message, autogenerate=True, rev_id=number)
    engine.dispose()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
