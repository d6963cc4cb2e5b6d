#!/usr/bin/env python3
"""Hands connections to a wireguard-go's socket on, for one user besides root; run it in the interface's namespace. The
socket itself cannot be given to anybody: wireguard-go ends when its attributes change. Ends when that one is gone.

    uapi_relay.py SOCKET RELAY USER
"""

import os
import select
import socket
import sys
import threading


def hand_on(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def serve(client: socket.socket, path: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
            threading.Thread(target=hand_on, args=(client, server), daemon=True).start()
            hand_on(server, client)
        except OSError:
            return


def main(path: str, relay: str, user: int) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(relay + ".new")
    os.chown(relay + ".new", user, -1)
    listener.listen()
    os.rename(relay + ".new", relay)
    while os.path.exists(path):
        if select.select([listener], [], [], 0.2)[0]:
            threading.Thread(target=serve, args=(listener.accept()[0], path), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
