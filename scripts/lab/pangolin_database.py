"""A SQLite database in the shape that Pangolin gives it, filled from a world.

`schema` names the Pangolin version whose shape is written; see pangolin_schema.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import addresses
from .pangolin_schema import TABLES, Version, columns_of, definition
from .sites_file import STREAM_PORT, WEB_PORT

if TYPE_CHECKING:
    from .world import Site, World

ORGANISATION = "home-lab"


def write(
    path: Path, world: World, schema: str = "1.22.0", amend: Callable[[_Writer], None] | None = None
) -> None:
    """`amend` may change what was filled in, within the same transaction."""
    major, minor, patch = map(int, schema.split("."))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Rollback journal, as Pangolin leaves it by default; one transaction, so that a reader never sees half of it.
    with contextlib.closing(sqlite3.connect(path, timeout=5)) as database, database:
        database.execute("BEGIN IMMEDIATE")
        writer = _Writer(database, (major, minor, patch))
        writer.make_tables()
        writer.fill(world, schema)
        if amend is not None:
            amend(writer)


class _Writer:
    def __init__(self, database: sqlite3.Connection, version: Version) -> None:
        self.database = database
        self.version = version

    def make_tables(self) -> None:
        for table in TABLES:
            columns = columns_of(table, self.version)
            if not columns:
                continue
            quoted = ", ".join(definition(column, "sqlite") for column in columns)
            self.database.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({quoted})')
            self.database.execute(f'DELETE FROM "{table}"')

    def insert(self, table: str, **values: object) -> None:
        """Columns that this version does not have are dropped; a name that no version has is a mistake."""
        known = {column.split(" ", 1)[0] for column in columns_of(table, self.version)}
        ever = {
            part.split(" ", 1)[0]
            for column in TABLES[table]
            for part in (column[1:] if isinstance(column, tuple) else (column,))
            if part
        }
        assert set(values) <= ever, f"{table} never had {set(values) - ever}"
        kept = {name: value for name, value in values.items() if name in known}
        names = ", ".join(f'"{name}"' for name in kept)
        self.database.execute(
            f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(kept))})', list(kept.values())
        )

    def fill(self, world: World, schema: str) -> None:
        now = int(time.time())
        self.insert("versionMigrations", version=schema, executedAt=now * 1000)
        self.insert("orgs", orgId=ORGANISATION, name="Home lab", subnet="100.90.128.0/24")
        self.insert(
            "domains",
            domainId="domain1",
            baseDomain="lab.example",
            configManaged=1,
            type="wildcard",
            verified=1,
            certResolver="letsencrypt",
        )
        self.insert("orgDomains", orgId=ORGANISATION, domainId="domain1")
        self.insert(
            "exitNodes",
            exitNodeId=1,
            name="Exit Node lab",
            address=str(addresses.HOST_TUNNEL),
            endpoint="pangolin.lab.example",
            publicKey=world.host.keys.public,
            listenPort=addresses.LISTEN_PORT,
            reachableAt="http://gerbil:3004",
            online=1,
            lastPing=now,
            type="gerbil",
            region=world.region,
        )
        for site in world.sites:
            self.insert_site(site, now)

    def insert_site(self, site: Site, now: int) -> None:
        identity = site.index
        self.insert(
            "sites",
            siteId=identity,
            orgId=ORGANISATION,
            niceId=site.nice_id,
            exitNode=1,
            name=site.name,
            pubKey=site.keys.public,
            subnet=site.prefix,
            exitNodeSubnet=site.prefix,
            type="newt",
            online=1,
            lastPing=now,
            address=f"100.90.128.{identity}/24",
            # newt's other WireGuard, the one for clients: a key that is no peer of wg0
            publicKey=site.keys.public[::-1].strip("=") + "=",
            listenPort=50000 + identity,
        )
        self.insert(
            "newt",
            id=f"newt{identity:011d}",
            secretHash="$argon2id$lab",
            dateCreated="2026-01-01T00:00:00.000Z",
            version="1.15.0",
            siteId=identity,
        )
        self.insert(
            "newtSession",
            id=hashlib.sha256(f"{site.nice_id} session".encode()).hexdigest(),
            newtId=f"newt{identity:011d}",
            expiresAt=(now + 30 * 86400) * 1000,
        )
        if columns_of("statusHistory", self.version):
            self.insert(
                "statusHistory",
                entityType="site",
                entityId=identity,
                orgId=ORGANISATION,
                status="online",
                timestamp=now - 3600,
            )
        for offset, (kind, mode, port, target_port) in enumerate(
            (("web", "http", WEB_PORT, 8080), ("stream", "tcp", STREAM_PORT, 5432))
        ):
            self.insert_resource(site, 2 * identity - 1 + offset, kind, mode, port, target_port)

    def insert_resource(
        self, site: Site, identity: int, kind: str, mode: str, port: int, target_port: int
    ) -> None:
        is_http = mode == "http"
        self.insert(
            "resources",
            resourceId=identity,
            resourceGuid=f"00000000-0000-4000-8000-{identity:012d}",
            orgId=ORGANISATION,
            niceId=f"{site.nice_id}-{kind}",
            name=f"{site.name} {kind}",
            subdomain=f"{kind}{site.index}" if is_http else None,
            fullDomain=f"{kind}{site.index}.lab.example" if is_http else None,
            domainId="domain1" if is_http else None,
            ssl=int(is_http),
            sso=0,
            http=int(is_http),
            protocol="tcp",
            mode=mode,
            proxyPort=None if is_http else 5432 + site.index,
            enabled=1,
        )
        self.insert(
            "targets",
            targetId=identity,
            resourceId=identity,
            siteId=site.index,
            ip="localhost",
            method="http" if is_http else None,
            port=target_port,
            internalPort=port,
            enabled=1,
            mode=mode,
        )
        if not columns_of("targetHealthCheck", self.version):
            return
        self.insert(
            "targetHealthCheck",
            targetHealthCheckId=identity,
            targetId=identity,
            orgId=ORGANISATION,
            siteId=site.index,
            name=f"{site.nice_id}-{kind}",
            hcEnabled=int(is_http),
            hcPath="/",
            hcScheme="http",
            hcHostname="localhost",
            hcPort=target_port,
            hcHealth="healthy" if is_http else "unknown",
        )
