"""Resources and their targets, as Pangolin would know them: in its database, in sites.yml, and in what Traefik polls.

    plan = Plan(world)
    newt = plan.newt(world.sites[0])
    web = plan.http("My web", newt.target(8080))
    database = plan.tcp("Database", 15432, newt.target(5432))
    plan.write_database(path)
    traefik.apply(plan.dynamic_configuration())

Names and addresses are made by Pangolin's rules (server/lib/traefik), so that services and routers have its names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import pangolin_database

if TYPE_CHECKING:
    from .world import Site, World

FIRST_INTERNAL_PORT = 40001  # Pangolin picks from 40000 to 65534, each once for a site
FIRST_LOCAL_SITE = 101  # siteId; the world's own sites have theirs from their index
DOMAIN = "lab.example"


def sanitize(text: str) -> str:
    """Pangolin's name for use in Traefik."""
    return re.sub(r"^-|-$", "", re.sub(r"-+", "-", re.sub(r"[^a-zA-Z0-9-]", "-", text[:50])))


@dataclass
class Place:
    """A site as resources see it."""

    plan: Plan
    identity: int
    nice_id: str
    name: str
    type: str  # newt | wireguard | local
    site: Site | None = None  # none for a local one
    online: bool = True
    next_port: int = FIRST_INTERNAL_PORT

    def target(self, port: int, ip: str = "127.0.0.1", **options) -> Target:
        """A target of this site; `ip` and `port` as seen from the site. Options are those of Target."""
        internal = None
        if self.type == "newt":
            internal, self.next_port = self.next_port, self.next_port + 1
        self.plan.targets += 1
        return Target(self.plan.targets, self, ip, port, internal, **options)


@dataclass
class Target:
    identity: int
    place: Place
    ip: str
    port: int
    internal_port: int | None
    method: str = "http"  # of http resources
    enabled: bool = True
    health: str | None = None  # of Pangolin's health check: healthy | unhealthy | unknown; none without a check
    path: str | None = None
    path_match: str | None = None  # exact | prefix | regex
    priority: int = 100

    @property
    def address(self) -> tuple[str, int]:
        """What Traefik dials."""
        if self.place.type == "newt":
            return self.place.site.address, self.internal_port
        return self.ip, self.port

    @property
    def backend(self) -> str:
        return "{}:{}".format(*self.address)


@dataclass
class Resource:
    identity: int
    nice_id: str
    name: str
    mode: str  # http | tcp | udp
    targets: list[Target]
    proxy_port: int | None = None  # of tcp and udp
    ssl: bool = False
    enabled: bool = True

    @property
    def full_domain(self) -> str | None:
        return f"{self.nice_id}.{DOMAIN}" if self.mode == "http" else None

    def groups(self) -> dict[str, list[Target]]:
        """Targets by the key that Pangolin gives their router and service: one group for each path."""
        found: dict[str, list[Target]] = {}
        for target in sorted(self.targets, key=lambda target: (-target.priority, target.identity)):
            if target.enabled:
                path = re.sub(r"[^a-zA-Z0-9]", lambda character: f"{ord(character[0]):x}", target.path or "")
                whole = "-".join(filter(None, (str(self.identity), path, target.path_match)))
                key = sanitize(whole)
                if len(whole) > 50:
                    key += "-" + hashlib.sha256(whole.encode()).hexdigest()[:12]
                found.setdefault(key, []).append(target)
        return found

    @property
    def service(self) -> str:
        """Of a resource without paths."""
        (key,) = self.groups()
        return f"{key}-{sanitize(self.name)}-service"

    @property
    def places(self) -> list[Place]:
        return list({target.place.identity: target.place for target in self.targets}.values())


@dataclass
class Plan:
    world: World
    places: list[Place] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)
    clients: list[Site] = field(default_factory=list)
    targets: int = 0  # made so far, of all resources

    # ---- sites

    def newt(self, site: Site) -> Place:
        return self._add_place(Place(self, site.index, site.nice_id, site.name, "newt", site))

    def wireguard(self, site: Site, addresses: Iterable[str]) -> Place:
        """A site with a plain WireGuard peer, which has exactly its targets' addresses as allowed IPs.

        The addresses are put into the site's namespace, and gerbil's route to them into the host's.
        """
        prefixes = [f"{address}/32" for address in addresses]
        for prefix in prefixes:
            site.namespace.ip("address", "add", prefix, "dev", "lo")
            self.world.host.namespace.ip("route", "replace", prefix, "dev", self.world.host.interface.name)
        self.world.set_allowed_ips(site, prefixes)
        return self._add_place(Place(self, site.index, site.nice_id, site.name, "wireguard", site))

    def local(self, nice_id: str = "local-badger-101", name: str = "Local Badger") -> Place:
        """A site without a tunnel: Traefik dials its targets from where it stands."""
        number = FIRST_LOCAL_SITE + sum(place.type == "local" for place in self.places)
        return self._add_place(Place(self, number, nice_id, name, "local"))

    def client(self, site: Site) -> None:
        """This peer of the host is no site but an olm, somebody's computer."""
        self.clients.append(site)

    def _add_place(self, place: Place) -> Place:
        self.places.append(place)
        return place

    # ---- resources

    def http(self, name: str, *targets: Target, ssl: bool = False) -> Resource:
        return self._add(name, "http", targets, ssl=ssl)

    def tcp(self, name: str, proxy_port: int, *targets: Target) -> Resource:
        return self._add(name, "tcp", targets, proxy_port=proxy_port)

    def udp(self, name: str, proxy_port: int, *targets: Target) -> Resource:
        return self._add(name, "udp", targets, proxy_port=proxy_port)

    def _add(self, name: str, mode: str, targets: Iterable[Target], **options) -> Resource:
        identity = len(self.resources) + 1
        nice_id = f"{sanitize(name).lower()}-{identity}"
        resource = Resource(identity, nice_id, name, mode, list(targets), **options)
        self.resources.append(resource)
        return resource

    def proxy_ports(self, mode: str) -> list[int]:
        return [resource.proxy_port for resource in self.resources if resource.mode == mode]

    def pairs(self) -> Iterator[tuple[Resource, Target]]:
        for resource in self.resources:
            for target in resource.targets:
                yield resource, target

    # ---- what Traefik polls

    def dynamic_configuration(self) -> dict:
        """As Pangolin serves it, without the badger middleware, which is a plugin from the Internet."""
        configuration: dict = {"http": {"middlewares": {"redirect-to-https": {"redirectScheme": {"scheme": "https"}}}}}
        for resource in self.resources:
            if not resource.enabled:
                continue
            for key, targets in resource.groups().items():
                name = f"{key}-{sanitize(resource.name)}"
                section = configuration.setdefault(resource.mode, {})
                routers = section.setdefault("routers", {})
                routers |= _routers(resource, targets[0], name)
                section.setdefault("services", {})[f"{name}-service"] = {
                    "loadBalancer": {"servers": _servers(resource, targets)}
                }
        return configuration

    # ---- what Pangolin knows

    def write_database(self, path: Path | str, schema: str = "1.22.0") -> None:
        """Pangolin's SQLite database with these resources; an existing one is brought up to date at once."""
        pangolin_database.write(Path(path), self.world, schema, self._amend)

    def _amend(self, writer) -> None:
        for table in ("resources", "targets", "targetHealthCheck"):
            writer.database.execute(f'DELETE FROM "{table}"')
        for place in self.places:
            self._write_place(writer, place)
        for site in self.clients:
            self._write_client(writer, site)
        for resource in self.resources:
            self._write_resource(writer, resource)

    @staticmethod
    def _write_place(writer, place: Place) -> None:
        if place.type == "local":
            writer.insert(
                "sites",
                siteId=place.identity,
                orgId=pangolin_database.ORGANISATION,
                niceId=place.nice_id,
                name=place.name,
                subnet="0.0.0.0/32",  # what Pangolin writes for want of a tunnel
                exitNodeSubnet="0.0.0.0/32",
                type="local",
                online=1,
            )
            return
        writer.database.execute(
            'UPDATE "sites" SET "type" = ?, "online" = ? WHERE "siteId" = ?',
            (place.type, int(place.online), place.identity),
        )

    @staticmethod
    def _write_client(writer, site: Site) -> None:
        for table in ("sites", "newt"):
            writer.database.execute(f'DELETE FROM "{table}" WHERE "siteId" = ?', (site.index,))
        writer.insert(
            "clients",
            clientId=site.index,
            orgId=pangolin_database.ORGANISATION,
            exitNode=1,
            niceId=site.nice_id,
            name=site.name,
            pubKey=site.keys.public,
            olmId=f"olm{site.index:012d}",
            subnet=f"100.90.128.{site.index}/24",
            exitNodeSubnet=site.prefix,
            type="olm",
            online=1,
        )

    @staticmethod
    def _write_resource(writer, resource: Resource) -> None:
        is_http = resource.mode == "http"
        writer.insert(
            "resources",
            resourceId=resource.identity,
            resourceGuid=f"00000000-0000-4000-8000-{resource.identity:012d}",
            orgId=pangolin_database.ORGANISATION,
            niceId=resource.nice_id,
            name=resource.name,
            subdomain=resource.nice_id if is_http else None,
            fullDomain=resource.full_domain,
            domainId="domain1" if is_http else None,
            ssl=int(resource.ssl),
            sso=0,
            http=int(is_http),
            protocol="udp" if resource.mode == "udp" else "tcp",
            mode=resource.mode,
            proxyPort=resource.proxy_port,
            enabled=int(resource.enabled),
        )
        for target in resource.targets:
            writer.insert(
                "targets",
                targetId=target.identity,
                resourceId=resource.identity,
                siteId=target.place.identity,
                ip=target.ip,
                method=target.method if is_http else None,
                port=target.port,
                # Pangolin picks one for every site; only newt's is dialled.
                internalPort=target.internal_port or FIRST_INTERNAL_PORT + 10000 + target.identity,
                enabled=int(target.enabled),
                path=target.path,
                pathMatchType=target.path_match,
                priority=target.priority,
                mode=resource.mode,
            )
            writer.insert(
                "targetHealthCheck",
                targetHealthCheckId=target.identity,
                targetId=target.identity,
                orgId=pangolin_database.ORGANISATION,
                siteId=target.place.identity,
                name=f"{resource.nice_id}-{target.identity}",
                hcEnabled=int(target.health is not None),
                hcPath="/",
                hcScheme="http",
                hcHostname=target.ip,
                hcPort=target.port,
                hcHealth=target.health or "unknown",
            )

    def sites_yaml(self) -> str:
        lines = ["sites:"]
        for place in self.places:
            lines += [f"  - site_id: {place.nice_id}", f"    name: {place.name}", f"    type: {place.type}"]
            if place.site is not None:
                lines.append(f'    public_key: "{place.site.keys.public}"')
            if place.type == "newt":
                lines.append(f"    tunnel: {place.site.prefix}")
            rows = [
                f'      - {{ resource_id: {resource.nice_id}, name: "{resource.name}", protocol: {resource.mode}, '
                f"address: {target.address[0]}, port: {target.address[1]} }}"
                for resource, target in self.pairs()
                if target.place is place
            ]
            lines += ["    resources:", *rows] if rows else []
        return "\n".join(lines) + "\n"


def _rule(resource: Resource, target: Target) -> str:
    rule = f"Host(`{resource.full_domain}`)"
    if target.path and target.path_match:
        kind = {"exact": "Path", "prefix": "PathPrefix", "regex": "PathRegexp"}[target.path_match]
        rule += f" && {kind}(`{target.path}`)"
    return rule


def _priority(target: Target) -> int:
    if target.priority != 100 or not (target.path and target.path_match):
        return target.priority
    return 1 if target.path == "/" else 110 + {"exact": 5, "prefix": 3, "regex": 2}[target.path_match]


def _routers(resource: Resource, target: Target, name: str) -> dict[str, dict]:
    service = f"{name}-service"
    if resource.mode != "http":
        router = {"entryPoints": [f"{resource.mode}-{resource.proxy_port}"], "service": service}
        return {f"{name}-router": router | ({"rule": "HostSNI(`*`)"} if resource.mode == "tcp" else {})}
    router = {"rule": _rule(resource, target), "service": service, "priority": _priority(target)}
    if not resource.ssl:
        return {f"{name}-router": router | {"entryPoints": ["web"]}}
    return {
        f"{name}-router": router | {"entryPoints": ["websecure"], "tls": {}},
        f"{name}-router-redirect": router | {"entryPoints": ["web"], "middlewares": ["redirect-to-https"]},
    }


def _servers(resource: Resource, targets: list[Target]) -> list[dict]:
    """Those that Pangolin would let Traefik use. It takes a server twice out of an http service only."""
    any_online = any(target.place.online for target in targets)
    usable = [target for target in targets if target.place.online or not any_online]
    if resource.mode != "http":
        return [{"address": target.backend} for target in usable]
    urls = [f"{target.method}://{target.backend}" for target in usable if target.health != "unhealthy"]
    return [{"url": url} for url in dict.fromkeys(urls)]
