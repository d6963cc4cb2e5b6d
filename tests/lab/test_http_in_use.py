#!/usr/bin/env python3
"""HTTP connections in use, which need the exporter to read HTTP: not run by ctest before it does."""

from __future__ import annotations

import threading

import harness
from harness import wait_for
from resource_accounts import host_sockets
from test_resources import ACTIVE, ResourceTest


class HttpInUse(ResourceTest):
    def test_http_in_use(self) -> None:
        """A request outstanding is a connection in use; what Traefik keeps for later is not."""
        for resource in (self.stage.web_1, self.stage.files, self.stage.local_faulty):
            with self.subTest(resource.name):
                threads = [
                    threading.Thread(target=self.stage.fetch, args=(resource, "/slow/page")) for _ in range(4)
                ]
                # 60 kB at 12 kB/s: some five seconds each.
                for thread in threads:
                    thread.start()
                try:
                    self.wait_published(
                        f"4 requests of {resource.name} are outstanding",
                        lambda samples: samples.total(ACTIVE, resource_id=resource.nice_id, protocol="http") == 4,
                    )
                finally:
                    for thread in threads:
                        thread.join()
                wait_for(f"{resource.name} rests", lambda: self.active(resource, "http") == 0, timeout=15)
                self.assertGreater(host_sockets(self.stage, resource.targets[0]).get("established", 0), 0)


if __name__ == "__main__":
    harness.main()
