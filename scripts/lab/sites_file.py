"""A sites.yml for hosts without Pangolin's database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World

# Every site of the lab offers the same two resources at its tunnel address.
WEB_PORT = 40001
STREAM_PORT = 40002


def text(world: World) -> str:
    lines = ["sites:"]
    for site in world.sites:
        lines += [f"  - site_id: {site.nice_id}", f"    name: {site.name}"]
        if world.region:
            lines.append(f"    region: {world.region}")
        lines += [
            f'    public_key: "{site.keys.public}"',
            f"    tunnel: {site.prefix}",
            "    type: newt",
            "    resources:",
        ]
        for kind, protocol, port in (("web", "http", WEB_PORT), ("stream", "tcp", STREAM_PORT)):
            domain = f", domain: {kind}{site.index}.lab.example" if protocol == "http" else ""
            lines.append(
                f"      - {{ resource_id: {site.nice_id}-{kind}, name: {kind.title()}, protocol: {protocol}, "
                f"address: {site.address}, port: {port}{domain} }}"
            )
    return "\n".join(lines) + "\n"
