#!/usr/bin/env python3
"""Peers, sites and interfaces come, change and go while traffic runs: still every packet once, and none twice."""

import contextlib
import tempfile
import time
from pathlib import Path

import harness
import traffic
from accounts import AT_HOST, BYTES, PACKETS, Accounts, difference, exporter_book, host_end, site_end, stage
from exposition import Samples
from harness import wait_for
from lab.world import Site, World
from readings import NeverBackwards
from traffic import Drizzle, End
from witness import Amount

TAG = "life"
UP = dict(transport="wireguard")


def pairs(world: World, *sites: Site) -> list[tuple[End, End]]:
    return [
        (host_end(world, ipv6), site_end(site, ipv6))
        for site in (sites or world.sites)
        for ipv6 in (False, True)
    ]


def refresh(world: World, exporter: harness.Exporter) -> None:
    """Pangolin writes down what happened."""
    world.write_database(exporter.folder / "db.sqlite")


def is_up(exporter: harness.Exporter, site: Site) -> bool:
    return exporter.scrape().value("pangolin_tunnel_up", site_id=site.nice_id, **UP) == 1


def wait_counting(exporter: harness.Exporter, world: World) -> None:
    """Echoes until the exporter counts them for every site: it has found the interface and attached."""

    def counting() -> bool:
        before = exporter_book(exporter.scrape())
        traffic.together(
            [lambda site=site: traffic.echo(host_end(world), site_end(site), [56]) for site in world.sites]
        )
        time.sleep(0.3)
        changed = {key[:2] for key in difference(exporter_book(exporter.scrape()), before)}
        return all((site.nice_id, direction) in changed for site in world.sites for direction in AT_HOST)

    wait_for("the exporter counts packets on the interface", counting, timeout=40, every=0.5)


class Lifecycle(harness.LabTest):
    def exchange(self, world: World) -> None:
        """A little of everything, losing nothing."""
        traffic.together(
            [
                lambda pair=pair: (traffic.tcp_bulk(*pair, 300_000, 300_000), traffic.echo(*pair, (1, 3000)))
                for pair in pairs(world)
            ]
        )

    def test_new_key_at_the_same_address(self) -> None:
        """newt restarts: its packets, before, meanwhile and after, are the same site's."""
        with stage(2, TAG) as (world, accounts, exporter), NeverBackwards(exporter):
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            with Drizzle(pairs(world)):
                for _ in range(3):
                    time.sleep(2)
                    world.rekey_site(0)
                    time.sleep(0.5)
                    refresh(world, exporter)
                time.sleep(2)
            wait_for("the tunnel is up with the new key", lambda: is_up(exporter, world.sites[0]))
            accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()), timeout=15)

    def test_a_site_connects(self) -> None:
        """Pangolin knows a site before its newt dials in: from the first packet on they are the site's."""
        with stage(1, TAG) as (world, accounts, exporter), NeverBackwards(exporter):
            site = world.add_site()
            world.host.interface.remove_peer(site.keys.public)
            refresh(world, exporter)
            wait_for(
                "the site is known",
                lambda: list(exporter.scrape().select("pangolin_site_info", site_id=site.nice_id)),
            )
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            with Drizzle(pairs(world)):
                time.sleep(0.5)
                world.host.interface.add_peer(site.keys.public, site.allowed_ips)
                wait_for("the new site's tunnel is up", lambda: is_up(exporter, site))
                time.sleep(1)
            accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()), timeout=15)

    def test_a_site_that_pangolin_does_not_know_yet(self) -> None:
        """Its packets are nobody's (`unassigned`) until the database has it, then the site's: each counted once."""
        with stage(1, TAG) as (world, accounts, exporter), NeverBackwards(exporter):
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            with Drizzle(pairs(world)) as drizzle:
                site = world.add_site()
                for pair in pairs(world, site):
                    drizzle.add(*pair)
                time.sleep(1)
                refresh(world, exporter)
                wait_for("the new site's tunnel is up", lambda: is_up(exporter, site))
            expected = accounts.host_book(before, accounts.at_host())

            def together() -> bool:
                found = difference(exporter_book(exporter.scrape()), counted)
                for way in AT_HOST:
                    known = found.get((site.nice_id, way, "udp"), Amount())
                    unknown = found.get(("unassigned", way, "udp"), Amount())
                    assert known.packets > 0 and known + unknown == expected[site.nice_id, way, "udp"], found
                return True

            wait_for("the site and nobody together have every packet", together, timeout=10)
            counted = exporter_book(exporter.scrape())
            before = accounts.at_host()
            with Drizzle(pairs(world)):
                time.sleep(1)
            accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()))

    def test_a_site_is_removed(self) -> None:
        with stage(2, TAG) as (world, accounts, exporter), NeverBackwards(exporter):
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            gone, stays = world.sites
            with Drizzle(pairs(world)):
                time.sleep(2)
            accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()))
            last = exporter.scrape()
            with Drizzle(pairs(world, stays)):
                accounts.remove_site(gone)
                world.remove_site(gone)
                refresh(world, exporter)
                wait_for(
                    "one active site", lambda: exporter.scrape().total("pangolin_site_active_sites") == 1
                )
                time.sleep(1)
            now = exporter.scrape()
            for name in (BYTES, PACKETS):
                for labels, value in now.select(name, site_id=gone.nice_id):
                    self.assertEqual(
                        value, last.value(name, **labels), f"a removed site's {name} {labels} moved"
                    )
            expected = {
                key: amount
                for key, amount in accounts.host_book(before, accounts.at_host()).items()
                if key[0] == stays.nice_id
            }
            found = difference(exporter_book(exporter.scrape()), counted)
            self.assertEqual(
                {key: amount for key, amount in found.items() if key[0] == stays.nice_id}, expected
            )

    def test_allowed_ips_move_to_another_peer(self) -> None:
        """Whose packets they are changes at a moment that only WireGuard knows; that each is counted once does not."""
        extra = "100.89.128.200"
        with stage(2, TAG) as (world, accounts, exporter), NeverBackwards(exporter):
            first, second = world.sites

            def give(site: Site, other: Site) -> None:
                if other.address != site.address:
                    other.run(
                        ["ip", "address", "del", f"{extra}/32", "dev", other.interface.name], check=False
                    )
                site.run(["ip", "address", "add", f"{extra}/32", "dev", site.interface.name])
                world.set_allowed_ips(site, [site.prefix, site.prefix_6, f"{extra}/30"])

            def passed(site: Site, before: Samples) -> Amount:
                found = difference(exporter_book(exporter.scrape()), exporter_book(before))
                return sum((found.get((site.nice_id, way, "udp"), Amount()) for way in AT_HOST), Amount())

            give(first, second)
            time.sleep(3)
            start, counted = accounts.at_host(), exporter.scrape()
            with Drizzle([(host_end(world), End(first.namespace, extra))]):
                time.sleep(2)
                give(second, first)
                time.sleep(1)
            with Drizzle([(host_end(world), End(second.namespace, extra))]):
                time.sleep(3)
            book = accounts.host_book(start, accounts.at_host())
            total = sum((book.get(("unassigned", way, "udp"), Amount()) for way in AT_HOST), Amount())
            self.assertGreater(total.packets, 100)
            wait_for(
                "both sites together have every packet",
                lambda: passed(first, counted) + passed(second, counted) == total,
                timeout=10,
            )

            start, counted = accounts.at_host(), exporter.scrape()
            with Drizzle([(host_end(world), End(second.namespace, extra))]):
                time.sleep(2)
            book = accounts.host_book(start, accounts.at_host())
            total = sum((book.get(("unassigned", way, "udp"), Amount()) for way in AT_HOST), Amount())
            wait_for(
                "they are all the second site's now", lambda: passed(second, counted) == total, timeout=10
            )
            self.assertEqual(passed(first, counted), Amount())

    def test_the_interface_is_made_anew(self) -> None:
        """gerbil restarts: the totals stay and grow on."""
        with stage(2, TAG) as (world, accounts, exporter), NeverBackwards(exporter):
            with accounts.checked(exporter):
                self.exchange(world)
            total = exporter_book(exporter.scrape())
            accounts.host_witness.close()
            world.delete_host_interface()
            time.sleep(2)
            self.assertEqual(
                difference(exporter_book(exporter.scrape()), total), {}, "totals changed without an interface"
            )
            world.create_host_interface()
            accounts.host_witness = accounts.make_host_witness()
            world.wait_connected(60 * harness.SLOWNESS)
            wait_counting(exporter, world)
            with accounts.checked(exporter):
                self.exchange(world)
            for key, amount in total.items():
                now = exporter_book(exporter.scrape())[key]
                self.assertTrue(now.bytes >= amount.bytes and now.packets >= amount.packets, key)

    def test_started_before_the_interface(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
        with World(1, TAG) as world:
            world.state.add("paths", str(folder))
            world.write_database(folder / "db.sqlite")
            world.delete_host_interface()
            settings = {
                "wireguard": {"netns": world.host.namespace.name},
                "metadata": {"sqlite": str(folder / "db.sqlite"), "refresh": "1s"},
            }
            with harness.Exporter(settings, folder=folder) as exporter:
                exporter.wait_alive()
                self.assertEqual(
                    exporter_book(exporter.scrape()).get(
                        (world.sites[0].nice_id, "ingress", "tcp"), Amount()
                    ),
                    Amount(),
                )
                world.create_host_interface()
                world.wait_connected(60 * harness.SLOWNESS)
                with contextlib.closing(Accounts(world)) as accounts:
                    wait_counting(exporter, world)
                    exporter.wait_ready()
                    with accounts.checked(exporter):
                        self.exchange(world)

    def test_two_namespaces_with_the_same_addresses(self) -> None:
        """Two gerbils on one machine: the same tunnel addresses, told apart by namespace and key."""
        folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
        with World(1, TAG) as one, World(1, TAG + "b") as two, contextlib.ExitStack() as resources:
            one.state.add("paths", str(folder))
            lines = ["sites:"]
            for name, world in (("one", one), ("two", two)):
                site = world.sites[0]
                site.nice_id = f"site-of-{name}"
                lines.append(
                    f'  - {{ site_id: {site.nice_id}, name: {name}, public_key: "{site.keys.public}", type: newt }}'
                )
                world.wait_connected(30 * harness.SLOWNESS)
            (folder / "sites.yml").write_text("\n".join(lines) + "\n")
            books = [resources.enter_context(contextlib.closing(Accounts(world))) for world in (one, two)]
            settings = {
                "wireguard": {"netns": "auto"},
                "metadata": {"sites_file": str(folder / "sites.yml"), "refresh": "1s"},
            }
            exporter = resources.enter_context(harness.Exporter(settings, folder=folder))
            exporter.wait_ready()
            for world in (one, two):
                wait_counting(exporter, world)
            starts = [accounts.read() for accounts in books]
            counted = exporter_book(exporter.scrape())
            traffic.together(
                [
                    lambda: traffic.tcp_bulk(*pairs(one)[0], 700_000, 100_000),
                    lambda: traffic.tcp_bulk(*pairs(two)[0], 100_000, 900_000),
                    lambda: traffic.udp_datagrams(*pairs(two)[1], [5000] * 7),
                ]
            )
            expected = {
                key: amount
                for accounts, start in zip(books, starts)
                for key, amount in accounts.settle(start, accounts.read()).items()
            }
            ours = {key[0] for key in expected}

            def same() -> bool:
                found = difference(exporter_book(exporter.scrape()), counted)
                found = {
                    key: amount for key, amount in found.items() if key[0] in ours
                }  # other worlds may be about
                assert found == expected, f"{found} is not {expected}"
                return True

            wait_for("each site has its own world's packets", same, timeout=10)


class Values(harness.LabTest):
    """What is not a packet: up, online, active, uptime."""

    def test_states_of_sites(self) -> None:
        with stage(3, TAG) as (world, _accounts, exporter), NeverBackwards(exporter):
            wait_for("three active sites", lambda: exporter.scrape().total("pangolin_site_active_sites") == 3)
            samples = exporter.scrape()
            self.assertEqual(samples.value("pangolin_site_active_sites", region="Exit Node lab"), 3)
            for site in world.sites:
                with self.subTest(site=site.nice_id):
                    self.assertEqual(samples.value("pangolin_tunnel_up", site_id=site.nice_id, **UP), 1)
                    self.assertEqual(samples.value("pangolin_site_online", site_id=site.nice_id, **UP), 1)
            self.check_uptime(exporter, world)
            world.host.interface.remove_peer(world.sites[2].keys.public)
            wait_for("two active sites", lambda: exporter.scrape().total("pangolin_site_active_sites") == 2)
            wait_for(
                "the site without a peer is down",
                lambda: (
                    exporter.scrape().value("pangolin_tunnel_up", site_id=world.sites[2].nice_id, **UP) == 0
                ),
            )
            self.assertEqual(
                exporter.scrape().value("pangolin_site_online", site_id=world.sites[2].nice_id, **UP), 0
            )
            self.assertEqual([is_up(exporter, site) for site in world.sites[:2]], [True, True])

    def check_uptime(self, exporter: harness.Exporter, world: World) -> None:
        name, labels = "pangolin_site_uptime_seconds_total", dict(site_id=world.sites[0].nice_id)
        start, before = time.monotonic(), exporter.scrape().value(name, **labels) or 0
        time.sleep(6)
        grown, passed = (exporter.scrape().value(name, **labels) or 0) - before, time.monotonic() - start
        self.assertLess(abs(grown - passed), 2.5, f"uptime grew by {grown} in {passed:.1f} s")


if __name__ == "__main__":
    harness.main()
