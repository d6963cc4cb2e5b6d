#!/usr/bin/env python3
"""The exporter is killed, restarted and upgraded while traffic runs: every packet is counted once, no counter falls.

PANGOLIN_EXPORTER_LAB_KILLS   times that it is killed (20)
"""

import os
import random
import subprocess
import time
from pathlib import Path

import harness
import traffic
from accounts import exporter_book, host_end, site_end, stage, wait_for_wireguard_bytes
from lab.world import Site, World
from readings import NeverBackwards
from traffic import Drizzle, End

TAG = "restart"
KILLS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_KILLS", "20"))
# What tells one build's layout of pinned maps from another's (loader/pin_root.h), and its neighbour.
LAYOUT, NEXT_LAYOUT = b"layout-1\0", b"layout-2\0"


def pairs(world: World, *sites: Site) -> list[tuple[End, End]]:
    return [
        (host_end(world, ipv6), site_end(site, ipv6))
        for site in (sites or world.sites)
        for ipv6 in (False, True)
    ]


def other_build(folder: Path) -> Path:
    """The same program with another layout of what it pins."""
    content = harness.exporter_path.read_bytes()
    assert LAYOUT in content, "where is the layout's name?"
    program = folder / "pangolin_exporter-next"
    program.write_bytes(content.replace(LAYOUT, NEXT_LAYOUT))
    program.chmod(0o755)
    return program


class Restart(harness.LabTest):
    wireguard: dict = {}
    kills = KILLS

    def setUp(self) -> None:
        seed = int(os.environ.get("PANGOLIN_EXPORTER_LAB_SEED", time.time_ns() % 1_000_000))
        print(f"PANGOLIN_EXPORTER_LAB_SEED={seed}", flush=True)
        self.random = random.Random(seed)

    def around(self, exporter: harness.Exporter, world: World, accounts, story) -> None:
        """Traffic of many kinds all the time while `story` goes on; then the books are compared."""
        before, counted = accounts.at_host(), exporter_book(exporter.scrape())
        with NeverBackwards(exporter, restarts=True), Drizzle(pairs(world)):
            story()
            traffic.together(
                [lambda pair=pair: traffic.tcp_bulk(*pair, 100_000, 100_000) for pair in pairs(world)]
            )
            exporter.wait_ready()
        accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()))

    def test_killed_again_and_again(self) -> None:
        # Without what takes longest to load, so that most of the time there is somebody to kill.
        with stage(2, TAG, self.wireguard, {"http": {"enabled": False}}) as (world, accounts, exporter):

            def killed() -> None:
                for _ in range(self.kills):
                    time.sleep(self.random.choice((0, 0.05, 0.3, 1)) * self.random.random())
                    exporter.kill()
                    time.sleep(self.random.random() * 0.3)
                    exporter.start()
                    # Some are killed before they are ready.
                    if self.random.random() < 0.7:
                        exporter.wait_ready()

            self.around(exporter, world, accounts, killed)
            wait_for_wireguard_bytes(world, exporter)

    def test_restarted_in_order_and_upgraded(self) -> None:
        with stage(2, TAG, self.wireguard) as (world, accounts, exporter):
            builds = [other_build(exporter.folder), harness.exporter_path]

            def restarted() -> None:
                for number in range(4):
                    exporter.stop(detach=False)
                    time.sleep(0.5)
                    exporter.program = builds[number % 2]
                    exporter.start()
                    exporter.wait_ready()
                    time.sleep(0.5)

            self.around(exporter, world, accounts, restarted)
            log = exporter.log()
            self.assertNotIn("is lost", log)
            self.assertNotIn("level=error", log)

    def test_the_interface_goes_while_it_is_stopped(self) -> None:
        """What was counted to the interface's end is credited when the exporter comes back."""
        with stage(1, TAG, self.wireguard) as (world, accounts, exporter):
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            exporter.kill()
            with Drizzle(pairs(world)):
                time.sleep(1)
            expected = accounts.host_book(before, accounts.at_host())
            accounts.host_witness.close()
            world.delete_host_interface()
            exporter.start()
            exporter.wait_alive()
            accounts.compare(exporter, counted, expected)
            world.create_host_interface()
            accounts.host_witness = accounts.make_host_witness()
            world.wait_connected(60 * harness.SLOWNESS)
            exporter.wait_ready()

    def test_more_peers_than_there_was_room_for(self) -> None:
        """New maps while it is killed: the change is completed, or never began."""
        with stage(1, TAG, self.wireguard) as (world, accounts, exporter):
            interface = world.host.interface

            def grown() -> None:
                for number in range(3):
                    for peer in range(130):
                        interface.add_peer(subprocess.run(
                            ["wg", "pubkey"], input=subprocess.run(["wg", "genkey"], capture_output=True).stdout,
                            capture_output=True).stdout.decode().strip(), [f"100.90.{number}.{peer}/32"])
                    time.sleep(self.random.random() * 1.5)
                    exporter.kill()
                    exporter.start()
                    exporter.wait_ready()
                time.sleep(2.5)

            self.around(exporter, world, accounts, grown)

    def test_without_pins(self) -> None:
        """What passes meanwhile is lost, but nothing is counted twice and no counter falls."""
        with stage(1, TAG, self.wireguard, {"pin_dir": ""}) as (world, accounts, exporter):
            with NeverBackwards(exporter, restarts=True):
                for end in (exporter.kill, lambda: exporter.stop(detach=False)):
                    before, counted = accounts.at_host(), exporter_book(exporter.scrape())
                    traffic.echo(host_end(world), site_end(world.sites[0]), [100] * 10)
                    accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()))
                    end()
                    exporter.start()
                    exporter.wait_ready()
                wait_for_wireguard_bytes(world, exporter)

    def test_one_at_a_time(self) -> None:
        with stage(1, TAG, self.wireguard) as (_world, _accounts, exporter):
            configuration = exporter.folder / "config.yml"
            second = subprocess.run(
                [str(exporter.program), f"--config.file={configuration}", "--web.listen-address=127.0.0.1:0"],
                capture_output=True,
                text=True,
                timeout=30,
            )
            self.assertEqual(second.returncode, 1)
            self.assertIn("another exporter", second.stdout + second.stderr)

    def test_detach_removes_everything(self) -> None:
        with stage(1, TAG, self.wireguard) as (world, _accounts, exporter):
            pins = Path(exporter.metrics["pin_dir"])
            self.assertTrue(list(pins.rglob("counters")))
            exporter.stop(detach=False)
            self.assertTrue(list(pins.rglob("counters")), "nothing is left to count on")
            exporter.detach()
            self.assertFalse(pins.exists())
            device = world.host.interface.name
            shown = world.host.run(["tc", "qdisc", "show", "dev", device]).stdout
            self.assertNotIn("clsact", shown)
            attached = world.host.run(["bpftool", "net", "show", "dev", device], check=False).stdout
            self.assertNotIn("traffic_", attached)

    def test_another_place_for_pins(self) -> None:
        """What was pinned in the place of before is detached, and totals go on."""
        with stage(1, TAG, self.wireguard) as (world, accounts, exporter):
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            traffic.echo(host_end(world), site_end(world.sites[0]), [100] * 10)
            exporter.stop(detach=False)
            old = Path(exporter.metrics["pin_dir"])
            self.assertTrue(list(old.rglob("counters")))
            exporter.metrics["pin_dir"] = f"{old}-moved"
            exporter.start()
            exporter.wait_ready()
            self.assertFalse(old.exists())
            self.assertIn(f"metrics.pin_dir was {old} before", exporter.log())
            traffic.echo(host_end(world), site_end(world.sites[0]), [100] * 10)
            accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()))

    def test_a_lost_state_file(self) -> None:
        """Totals begin anew; pinned maps that nobody understands are removed, and counting goes on."""
        with stage(1, TAG, self.wireguard) as (world, accounts, exporter):
            for change in ("removed", "torn"):
                exporter.kill()
                for file in Path(exporter.metrics["state_dir"]).iterdir():
                    if change == "removed":
                        file.unlink()
                    else:
                        file.write_bytes(file.read_bytes()[:-7])
                exporter.start()
                exporter.wait_ready()
                with accounts.checked(exporter):
                    traffic.together(
                        [lambda pair=pair: traffic.tcp_bulk(*pair, 50_000, 50_000) for pair in pairs(world)]
                    )
            self.assertIn("cannot be used", exporter.log())
            self.assertEqual(
                len([path for path in Path(exporter.metrics["pin_dir"]).rglob("counters")]), 1
            )


class RestartWithClsact(Restart):
    """As on kernels before 6.6, in small."""

    wireguard = {"attach": "clsact"}
    kills = min(KILLS, 5)


if __name__ == "__main__":
    harness.main()
