"""One site, Pangolin's shape in a container beside the host, and a sites.yml: what tests of the control plane share."""

from __future__ import annotations

import contextlib
from pathlib import Path

import harness
from harness import wait_for
from lab.namespace import Namespace
from lab.outside import CONTAINER_LINK, add_container
from lab.world import World
from pangolin_server import PangolinServer


class PangolinTest(harness.LabTest):
    """`tag` names the world. `stack` closes what a test keeps until all of them are done."""

    tag: str
    world: World
    host: Namespace
    server: PangolinServer
    stack: contextlib.ExitStack
    sites_file: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.world = cls.stack.enter_context(World(1, cls.tag))
        cls.host = cls.world.host.namespace
        cls.server = PangolinServer(add_container(cls.world), str(CONTAINER_LINK[1].ip))
        cls.server.start()
        cls.stack.callback(cls.server.stop)
        cls.sites_file = cls.world.state.folder / "sites.yml"
        cls.world.write_sites_yaml(cls.sites_file)
        cls.world.wait_connected(30 * harness.SLOWNESS)

    def start_exporter(self, **options: object) -> harness.Exporter:
        """It observes Pangolin when this returns; stopped after the test."""
        settings = {
            "wireguard": {"netns": self.host.name},
            "metadata": {"sites_file": str(self.sites_file), "refresh": "1s"},
        }
        exporter = self.enterContext(harness.Exporter(settings, **options))
        exporter.wait_ready()
        wait_for("Pangolin is observed", lambda: "observing Pangolin" in exporter.log())
        return exporter
