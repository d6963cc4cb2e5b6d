"""The commands of `python3 scripts/lab`."""

from __future__ import annotations

import argparse
import json
import os
import sys

from .commands import LabError
from .state import State
from .wireguard import Implementation
from .world import DEFAULT_TAG, World


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="scripts/lab", description="A Pangolin-like world in network namespaces."
    )
    commands = top.add_subparsers(dest="command", required=True)
    implementations = [implementation.value for implementation in Implementation]

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--tag", default=DEFAULT_TAG, help="name of the world, for several side by side")
        return command

    for name, text in (
        ("up", "build the world and leave it standing"),
        ("demo", "build the world, send traffic, run the exporter; remove all at the end"),
    ):
        command = add(name, text)
        command.add_argument("--sites", type=int, default=3)
        command.add_argument("--region", help="region of the exit node; Pangolin normally has none")
        command.add_argument("--host-implementation", choices=implementations, default="auto")
        command.add_argument("--site-implementation", choices=implementations, default="auto")
        if name == "up":
            command.add_argument("--database", help="also write Pangolin's SQLite database to this path")
            command.add_argument(
                "--schema", default="1.22.0", help="the Pangolin version whose schema is written"
            )
        else:
            command.add_argument("--port", type=int, default=9464)
            command.add_argument("--duration", type=float, help="seconds; default: until Ctrl-C")
            command.add_argument("--exporter", help="default: build/pangolin_exporter")
            command.add_argument(
                "exporter_arguments", nargs="*", metavar="-- ARGUMENT", help="passed to the exporter"
            )
    add("down", "remove a world, also what a crash left of it").add_argument("--all", action="store_true")
    add("show", "print what is recorded of a world")
    return top


def bring_up(options: argparse.Namespace) -> None:
    world = World(
        options.sites,
        options.tag,
        owned=False,
        region=options.region,
        host_implementation=options.host_implementation,
        site_implementation=options.site_implementation,
    )
    world.up()
    try:
        world.wait_connected()
        if options.database:
            world.write_database(options.database, options.schema)
    except BaseException:
        world.down()
        raise
    print(json.dumps(world.state.content["description"], indent=2))


def tear_down(options: argparse.Namespace) -> None:
    for tag in State.all_tags() if options.all else [options.tag]:
        state = State(tag)
        if not state.load():
            print(f"lab '{tag}': nothing to remove")
            continue
        if state.owner_is_alive():
            raise LabError(
                f"the lab '{tag}' is in use by process {state.content['owner']['pid']}. HINT: Stop that process."
            )
        problems = state.remove_everything()
        if problems:
            raise LabError("could not remove: " + "; ".join(problems))
        print(f"lab '{tag}': removed")


def show(options: argparse.Namespace) -> None:
    state = State(options.tag)
    if not state.load():
        raise LabError(f"there is no lab '{options.tag}'. HINT: Build it with `python3 scripts/lab up`.")
    print(json.dumps(state.content["description"], indent=2))


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    if os.geteuid() != 0 and options.command != "show":
        print(
            "scripts/lab: needs root, for network namespaces. HINT: Run it with sudo.",
            file=sys.stderr,
        )
        return 1
    try:
        if options.command == "demo":
            from .demo import run_demo  # brings in the traffic threads, which the other commands do not need

            return run_demo(options)
        {"up": bring_up, "down": tear_down, "show": show}[options.command](options)
    except LabError as error:
        print(f"scripts/lab: {error}", file=sys.stderr)
        return 1
    return 0
