"""SQLAlchemy on PostgreSQL, core and ORM, sync and async."""

import asyncio
import os

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

url = sa.make_url(os.environ["PG_URL"]).set(drivername="postgresql+psycopg")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = {"prefixes": ["TEMPORARY"]}
    id: Mapped[int] = mapped_column(primary_key=True)


engine = sa.create_engine(url)
with engine.connect() as connection, Session(connection) as session:
    connection.execute(sa.text("CREATE TEMPORARY TABLE orders (id integer PRIMARY KEY)"))
    session.add(Order(id=7))
    session.flush()
    print(session.scalars(sa.select(Order.id)).all())
engine.dispose()


async def main():
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        print((await connection.execute(sa.text("SELECT 42"))).scalar())
    await engine.dispose()


asyncio.run(main())
