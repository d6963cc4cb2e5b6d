"""The tables of Pangolin's database, SQLite or PostgreSQL, as far as the exporter may meet them.

Column names and types are Pangolin's, and they drift from version to version. Tables that nobody here reads are left
out; of the others all columns are there, so that a `SELECT` by name is tested against a row as wide as a real one.

Run as a program it prints a C++ header with the tables that the exporter reads, for tests that make such databases.
"""

from __future__ import annotations

import re

Version = tuple[int, int, int]

# table → columns "name type"; an entry (first version, before it, from it on) tells where Pangolin changed it. The
# types are SQLite's and four words for what the databases write differently: `serial`, `boolean`, `bigint`, `megabytes`.
TABLES: dict[str, list] = {
    "versionMigrations": ["version text PRIMARY KEY NOT NULL", "executedAt bigint NOT NULL"],
    "orgs": [
        "orgId text PRIMARY KEY NOT NULL",
        "name text NOT NULL",
        "subnet text",
        "utilitySubnet text",
        "createdAt text",
        "settingsLogRetentionDaysRequest integer DEFAULT 7 NOT NULL",
    ],
    "domains": [
        "domainId text PRIMARY KEY NOT NULL",
        "baseDomain text NOT NULL",
        "configManaged boolean DEFAULT 0 NOT NULL",
        "type text",
        "verified boolean DEFAULT 0 NOT NULL",
        "failed boolean DEFAULT 0 NOT NULL",
        "tries integer DEFAULT 0 NOT NULL",
        "certResolver text",
        "preferWildcardCert boolean",
    ],
    "orgDomains": ["orgId text NOT NULL", "domainId text NOT NULL"],
    "exitNodes": [
        "exitNodeId serial NOT NULL",
        "name text NOT NULL",
        "address text NOT NULL",
        "endpoint text NOT NULL",
        "publicKey text NOT NULL",
        "listenPort integer NOT NULL",
        "reachableAt text",
        "maxConnections integer",
        "online boolean DEFAULT 0 NOT NULL",
        "lastPing integer",
        "type text DEFAULT 'gerbil'",
        "region text",
    ],
    "sites": [
        "siteId serial NOT NULL",
        "orgId text NOT NULL",
        "niceId text NOT NULL",
        "exitNode integer",
        "networkId integer",
        "name text NOT NULL",
        "pubKey text",
        ((1, 22, 0), "subnet text", "exitNodeSubnet text"),
        "bytesIn megabytes DEFAULT 0",
        "bytesOut megabytes DEFAULT 0",
        "lastBandwidthUpdate text",
        "type text NOT NULL",
        "online boolean DEFAULT 0 NOT NULL",
        ((1, 17, 0), None, "lastPing integer"),
        "address text",
        "endpoint text",
        "publicKey text",
        "lastHolePunch bigint",
        "listenPort integer",
        "dockerSocketEnabled boolean DEFAULT 1 NOT NULL",
        ((1, 22, 0), None, "autoUpdateEnabled boolean DEFAULT 0 NOT NULL"),
        ((1, 18, 0), None, "status text DEFAULT 'approved'"),
    ],
    "resources": [
        "resourceId serial NOT NULL",
        ((1, 10, 0), None, "resourceGuid text NOT NULL"),
        "orgId text NOT NULL",
        ((1, 10, 0), None, "niceId text NOT NULL"),
        "name text NOT NULL",
        "subdomain text",
        "fullDomain text",
        "domainId text",
        "ssl boolean DEFAULT 0 NOT NULL",
        "blockAccess boolean DEFAULT 0 NOT NULL",
        "sso boolean DEFAULT 1 NOT NULL",
        ((1, 19, 0), "http boolean DEFAULT 1 NOT NULL", "mode text DEFAULT 'http' NOT NULL"),
        ((1, 19, 0), "protocol text DEFAULT 'tcp' NOT NULL", None),
        "proxyPort integer",
        "emailWhitelistEnabled boolean DEFAULT 0 NOT NULL",
        "applyRules boolean DEFAULT 0 NOT NULL",
        "enabled boolean DEFAULT 1 NOT NULL",
        "stickySession boolean DEFAULT 0 NOT NULL",
        "tlsServerName text",
        "setHostHeader text",
        "enableProxy boolean DEFAULT 1",
        "proxyProtocol boolean DEFAULT 0 NOT NULL",
        "proxyProtocolVersion integer DEFAULT 1",
        "maintenanceModeEnabled boolean DEFAULT 0 NOT NULL",
        ((1, 18, 0), None, "health text DEFAULT 'unknown'"),
        ((1, 22, 0), None, "wildcard boolean DEFAULT 0 NOT NULL"),
        ((1, 22, 0), None, "status text DEFAULT 'approved'"),
    ],
    "targets": [
        "targetId serial NOT NULL",
        ((1, 22, 0), "resourceId integer NOT NULL", "resourceId integer"),
        ((1, 22, 0), None, "providerId integer"),
        "siteId integer NOT NULL",
        "ip text NOT NULL",
        "method text",
        "port integer NOT NULL",
        "internalPort integer",
        "enabled boolean DEFAULT 1 NOT NULL",
        ((1, 10, 0), None, "path text"),
        ((1, 10, 0), None, "pathMatchType text"),
        ((1, 11, 0), None, "rewritePath text"),
        ((1, 11, 0), None, "rewritePathType text"),
        ((1, 11, 0), None, "priority integer DEFAULT 100 NOT NULL"),
        ((1, 19, 0), None, "mode text DEFAULT 'http' NOT NULL"),
        ((1, 22, 0), None, "authToken text"),
    ],
    "targetHealthCheck": [
        ((1, 11, 0), None, "targetHealthCheckId serial NOT NULL"),
        ((1, 11, 0), None, "targetId integer"),
        ((1, 18, 0), None, "orgId text"),
        ((1, 18, 0), None, "siteId integer"),
        ((1, 18, 0), None, "name text"),
        ((1, 11, 0), None, "hcEnabled boolean DEFAULT 0 NOT NULL"),
        ((1, 11, 0), None, "hcPath text"),
        ((1, 11, 0), None, "hcScheme text"),
        ((1, 11, 0), None, "hcMode text DEFAULT 'http'"),
        ((1, 11, 0), None, "hcHostname text"),
        ((1, 11, 0), None, "hcPort integer"),
        ((1, 11, 0), None, "hcInterval integer DEFAULT 30"),
        ((1, 11, 0), None, "hcUnhealthyInterval integer DEFAULT 30"),
        ((1, 11, 0), None, "hcTimeout integer DEFAULT 5"),
        ((1, 11, 0), None, "hcStatus integer"),
        ((1, 11, 0), None, "hcHealth text DEFAULT 'unknown'"),
        ((1, 18, 0), None, "hcHealthyThreshold integer DEFAULT 1"),
        ((1, 18, 0), None, "hcUnhealthyThreshold integer DEFAULT 1"),
    ],
    "user": [
        "id text PRIMARY KEY NOT NULL",
        "email text",
        "username text NOT NULL",
        "name text",
        "type text NOT NULL",
    ],
    "session": [
        "id text PRIMARY KEY NOT NULL",
        "userId text NOT NULL",
        "expiresAt bigint NOT NULL",
        "issuedAt bigint",
        "deviceAuthUsed boolean DEFAULT 0 NOT NULL",
    ],
    "resourceSessions": [
        "id text PRIMARY KEY NOT NULL",
        "resourceId integer NOT NULL",
        "expiresAt bigint NOT NULL",
        "sessionLength bigint NOT NULL",
        "doNotExtend boolean DEFAULT 0 NOT NULL",
        "isRequestToken boolean",
        "userSessionId text",
        "passwordId integer",
        "pincodeId integer",
        "whitelistId integer",
        "accessTokenId text",
        ((1, 19, 0), None, "policyPasswordId integer"),
        ((1, 19, 0), None, "policyPincodeId integer"),
        ((1, 19, 0), None, "policyWhitelistId integer"),
        "issuedAt bigint",
    ],
    "newt": [
        "id text PRIMARY KEY NOT NULL",
        "secretHash text NOT NULL",
        "dateCreated text NOT NULL",
        "version text",
        "siteId integer",
    ],
    "newtSession": ["id text PRIMARY KEY NOT NULL", "newtId text NOT NULL", "expiresAt bigint NOT NULL"],
    "olms": ["id text PRIMARY KEY NOT NULL", "version text", "agent text", "clientId integer", "userId text"],
    "clients": [
        "clientId serial NOT NULL",
        "orgId text NOT NULL",
        "exitNode integer",
        "niceId text NOT NULL",
        "name text NOT NULL",
        "pubKey text",
        "olmId text",
        "subnet text NOT NULL",
        ((1, 22, 0), None, "exitNodeSubnet text"),
        "bytesIn megabytes",
        "bytesOut megabytes",
        "lastBandwidthUpdate text",
        "lastPing integer",
        "type text NOT NULL",
        "online boolean DEFAULT 0 NOT NULL",
    ],
    "clientSession": ["id text PRIMARY KEY NOT NULL", "olmId text NOT NULL", "expiresAt bigint NOT NULL"],
    "siteResources": [
        "siteResourceId serial NOT NULL",
        "orgId text NOT NULL",
        "networkId integer",
        "niceId text NOT NULL",
        "name text NOT NULL",
        "mode text NOT NULL",
        "destination text NOT NULL",
        "destinationPort integer",
        "alias text",
        "fullDomain text",
        "enabled boolean DEFAULT 1 NOT NULL",
    ],
    "certificates": [
        ((1, 11, 0), None, "certId serial NOT NULL"),
        ((1, 11, 0), None, "domain text NOT NULL UNIQUE"),
        ((1, 11, 0), None, "domainId text"),
        ((1, 11, 0), None, "wildcard boolean DEFAULT 0"),
        ((1, 11, 0), None, "status text NOT NULL"),
        ((1, 11, 0), None, "expiresAt bigint"),
        ((1, 11, 0), None, "lastRenewalAttempt integer"),
        ((1, 11, 0), None, "createdAt integer NOT NULL"),
        ((1, 11, 0), None, "updatedAt integer NOT NULL"),
        ((1, 11, 0), None, "errorMessage text"),
        ((1, 11, 0), None, "renewalCount integer DEFAULT 0"),
        ((1, 11, 0), None, "certFile text"),
        ((1, 11, 0), None, "keyFile text"),
    ],
    "requestAuditLog": [
        ((1, 12, 0), None, "id serial NOT NULL"),
        ((1, 12, 0), None, "timestamp integer NOT NULL"),
        ((1, 12, 0), None, "orgId text"),
        ((1, 12, 0), None, "action boolean NOT NULL"),
        ((1, 12, 0), None, "reason integer NOT NULL"),
        ((1, 12, 0), None, "actorType text"),
        ((1, 12, 0), None, "actor text"),
        ((1, 12, 0), None, "actorId text"),
        ((1, 12, 0), None, "resourceId integer"),
        ((1, 12, 0), None, "ip text"),
        ((1, 12, 0), None, "location text"),
        ((1, 12, 0), None, "userAgent text"),
        ((1, 12, 0), None, "metadata text"),
        ((1, 12, 0), None, "headers text"),
        ((1, 12, 0), None, "query text"),
        ((1, 12, 0), None, "originalRequestURL text"),
        ((1, 12, 0), None, "scheme text"),
        ((1, 12, 0), None, "host text"),
        ((1, 12, 0), None, "path text"),
        ((1, 12, 0), None, "method text"),
        ((1, 12, 0), None, "tls boolean"),
    ],
    "blueprints": [
        ((1, 12, 0), None, "blueprintId serial NOT NULL"),
        ((1, 12, 0), None, "orgId text NOT NULL"),
        ((1, 12, 0), None, "name text NOT NULL"),
        ((1, 12, 0), None, "source text NOT NULL"),
        ((1, 12, 0), None, "createdAt integer NOT NULL"),
        ((1, 12, 0), None, "succeeded boolean NOT NULL"),
        ((1, 12, 0), None, "contents text NOT NULL"),
        ((1, 12, 0), None, "message text"),
    ],
    "statusHistory": [
        ((1, 18, 0), None, "id serial NOT NULL"),
        ((1, 18, 0), None, "entityType text NOT NULL"),
        ((1, 18, 0), None, "entityId integer NOT NULL"),
        ((1, 18, 0), None, "orgId text NOT NULL"),
        ((1, 18, 0), None, "status text NOT NULL"),
        ((1, 18, 0), None, "timestamp integer NOT NULL"),
    ],
}


def columns_of(table: str, version: Version) -> list[str]:
    """The columns of the table in that version; none where it did not exist yet."""
    chosen = []
    for column in TABLES[table]:
        if isinstance(column, tuple):
            changed_in, before, after = column
            column = after if version >= changed_in else before
        if column is not None:
            chosen.append(column)
    return chosen


# What the four words are in each database.
TYPES = {
    "sqlite": {
        "serial": "integer PRIMARY KEY AUTOINCREMENT",
        "boolean": "integer",
        "bigint": "integer",
        "megabytes": "integer",
    },
    "postgres": {"serial": "serial PRIMARY KEY", "megabytes": "real"},
}


def definition(column: str, dialect: str) -> str:
    """The column as a CREATE TABLE statement of that database has it, its name quoted."""
    name, rest = column.split(" ", 1)
    word, *more = rest.split(" ", 1)
    tail = f" {more[0]}" if more else ""
    if dialect == "postgres" and word == "boolean":
        tail = re.sub(r"DEFAULT ([01])", lambda match: f"DEFAULT {('false', 'true')[int(match[1])]}", tail)
    return f'"{name}" {TYPES[dialect].get(word, word)}{tail}'


VERSIONS = ("1.9.0", "1.12.0", "1.14.0", "1.17.0", "1.18.0", "1.19.0", "1.22.0")
READ_TABLES = (
    "versionMigrations",
    "orgs",
    "exitNodes",
    "sites",
    "resources",
    "targets",
    "targetHealthCheck",
    "clients",
    "user",
    "session",
    "resourceSessions",
    "newtSession",
    "clientSession",
    "certificates",
    "blueprints",
)


def header() -> str:
    lines = [
        "// Generated from scripts/lab/pangolin_schema.py.",
        "#pragma once",
        "struct PangolinColumn {",
        "    const char* version;",
        "    const char* table;",
        "    const char* name;",
        "    const char* sqlite;",
        "    const char* postgres;",
        "};",
        "inline constexpr PangolinColumn pangolin_columns[] = {",
    ]
    for version in VERSIONS:
        for table in READ_TABLES:
            for column in columns_of(table, tuple(map(int, version.split(".")))):
                fields = (version, table, column.split(" ", 1)[0], definition(column, "sqlite"), definition(column, "postgres"))
                quoted = ", ".join('"{}"'.format(field.replace('"', '\\"')) for field in fields)
                lines.append(f"    {{{quoted}}},")
    return "\n".join([*lines, "};", ""])


if __name__ == "__main__":
    print(header(), end="")
