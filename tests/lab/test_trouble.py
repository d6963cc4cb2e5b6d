#!/usr/bin/env python3
"""What goes wrong on hosts: sites that cannot be read yet, programs removed, interfaces lost from sight or made anew
again and again. Nothing may be counted twice or for the wrong site, and counting goes on within seconds."""

import os
import tempfile
import time
from pathlib import Path

import harness
import traffic
from accounts import exporter_book, host_end, site_end, stage
from harness import wait_for
from lab.world import World

TAG = "trouble"


def counted_packets(exporter: harness.Exporter, site_id: str) -> int:
    return sum(
        amount.packets for (site, *_), amount in exporter_book(exporter.scrape()).items() if site == site_id
    )


def wait_until_counted(test: harness.LabTest, world: World, exporter: harness.Exporter, within: float) -> None:
    """Echoes to the first site until one is counted."""
    start = time.monotonic()
    site = world.sites[0]

    def counted() -> bool:
        before = counted_packets(exporter, site.nice_id)
        traffic.echo(host_end(world), site_end(site), [56])
        return counted_packets(exporter, site.nice_id) > before

    wait_for("packets are counted", counted, timeout=60, every=0.2)
    test.assertLess(time.monotonic() - start, within * harness.SLOWNESS)


def attached_to_interfaces(exporter: harness.Exporter) -> float:
    """Other programs are the host's, and stay."""
    samples = exporter.scrape()
    return sum(samples.total("pangolin_exporter_attachments", hook=hook) for hook in ("tcx", "clsact"))


class Trouble(harness.LabTest):
    def test_sites_that_can_be_read_only_later(self) -> None:
        """An exporter started before Pangolin: what it counts meanwhile is the sites' once they are known."""
        folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
        with World(1, TAG) as world:
            world.state.add("paths", str(folder))
            world.wait_connected(30 * harness.SLOWNESS)
            settings = {
                "wireguard": {"netns": world.host.namespace.name},
                "metadata": {"sqlite": str(folder / "db.sqlite"), "refresh": "1s"},
            }
            with harness.Exporter(settings, folder=folder) as exporter:
                wait_for(
                    "the programs are attached",
                    lambda: attached_to_interfaces(exporter) >= 2,
                )
                traffic.echo(host_end(world), site_end(world.sites[0]), [56] * 5)
                self.assertEqual(counted_packets(exporter, "unassigned"), 0)
                world.write_database(folder / "db.sqlite")
                exporter.wait_ready()
                self.assertGreaterEqual(counted_packets(exporter, world.sites[0].nice_id), 10)
                self.assertEqual(counted_packets(exporter, "unassigned"), 0)

    def test_interface_made_anew_again_and_again(self) -> None:
        with stage(1, TAG) as (world, accounts, exporter):
            accounts.host_witness.close()
            for _ in range(3):
                world.delete_host_interface()
                world.create_host_interface()
                world.wait_connected(60 * harness.SLOWNESS)
                wait_until_counted(self, world, exporter, within=5)
            accounts.host_witness = accounts.make_host_witness()

    def test_programs_that_somebody_removed(self) -> None:
        with stage(1, TAG, {"attach": "clsact"}) as (world, _accounts, exporter):
            wait_until_counted(self, world, exporter, within=5)
            world.host.run(["tc", "qdisc", "del", "dev", world.host.interface.name, "clsact"])
            wait_until_counted(self, world, exporter, within=5)

    def test_interface_lost_from_sight_for_a_moment(self) -> None:
        """Its own counters went on meanwhile: they are credited once."""
        with stage(1, TAG) as (world, _accounts, exporter):
            wait_until_counted(self, world, exporter, within=5)
            socket = Path("/var/run/wireguard") / f"{world.host.interface.name}.sock"
            if not socket.exists():
                self.skipTest("kernel WireGuard has no socket to hide")
            site_id = world.sites[0].nice_id

            def tunnel_bytes() -> float:
                return sum(
                    exporter.scrape().value(
                        "pangolin_tunnel_bytes_total",
                        site_id=site_id,
                        transport="wireguard",
                        direction=direction,
                    )
                    for direction in ("ingress", "egress")
                )

            traffic.tcp_bulk(host_end(world), site_end(world.sites[0]), 2_000_000, 0)
            before = tunnel_bytes()
            hidden = socket.with_suffix(".hidden")
            socket.rename(hidden)
            try:
                time.sleep(3)
            finally:
                hidden.rename(socket)
            wait_until_counted(self, world, exporter, within=10)
            self.assertGreaterEqual(tunnel_bytes(), before)
            self.assertLess(tunnel_bytes() - before, 500_000, "what was credited before is credited again")

    def test_a_namespace_that_is_gone_is_let_go(self) -> None:
        with stage(1, TAG) as (world, _accounts, exporter):
            wait_until_counted(self, world, exporter, within=5)
            world.delete_host_interface()
            wait_for(
                "nothing is attached",
                lambda: attached_to_interfaces(exporter) == 0,
                timeout=5,
            )
            held = [os.readlink(link) for link in Path(f"/proc/{exporter.process.pid}/fd").iterdir()]
            self.assertFalse(
                [target for target in held if target.startswith("net:[")],
                "an open namespace would outlive its container",
            )

    def test_a_site_that_is_not_listed_for_a_while(self) -> None:
        """Its totals stay to be seen and go on, and its tunnel did not end."""
        folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
        with World(1, TAG) as world:
            world.state.add("paths", str(folder))
            world.wait_connected(30 * harness.SLOWNESS)
            listed = folder / "sites.yml"
            world.write_sites_yaml(listed)
            settings = {
                "wireguard": {"netns": world.host.namespace.name},
                "metadata": {"sites_file": str(listed), "refresh": "1s"},
            }
            site_id = world.sites[0].nice_id
            with harness.Exporter(settings, folder=folder) as exporter:
                exporter.wait_ready()
                wait_until_counted(self, world, exporter, within=10)

                def online() -> bool:
                    return any(True for _ in exporter.scrape().select("pangolin_site_online", site_id=site_id))

                def ends() -> list[float]:
                    samples = exporter.scrape()
                    return [
                        samples.total(family, site_id=site_id)
                        for family in ("pangolin_site_connection_drops_total", "pangolin_tunnel_reconnects_total")
                    ]

                before, counted = ends(), counted_packets(exporter, site_id)
                self.assertTrue(online())
                (folder / "sites.kept").write_text(listed.read_text())
                (folder / "sites.none").write_text("sites: []\n")
                (folder / "sites.none").rename(listed)
                wait_for("the site is not there", lambda: not online())
                traffic.echo(host_end(world), site_end(world.sites[0]), [56])
                time.sleep(2)
                self.assertGreaterEqual(counted_packets(exporter, site_id), counted)
                self.assertEqual(ends(), before)
                (folder / "sites.kept").rename(listed)
                wait_for("the site is there again", online)
                wait_until_counted(self, world, exporter, within=10)
                self.assertGreater(counted_packets(exporter, site_id), counted)
                self.assertEqual(ends(), before)


if __name__ == "__main__":
    harness.main()
