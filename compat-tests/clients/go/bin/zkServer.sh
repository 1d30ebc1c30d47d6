#!/usr/bin/env python3
"""What go-zookeeper's tests start as a server: zkServer.sh start-foreground ZOO_CFG

Forwards connections from the configuration's clientPort to a server that runs already, named by
FORWARD_TO (`host:port`, or one per server of an ensemble, separated by commas). For a client the end
of this process is the loss of its server.
"""

import os
import re
import socket
import sys
import threading

READ_BYTES = 65536
SRVR = b"srvr"


def main():
    config = open(sys.argv[2], encoding="utf-8").read()
    port = int(re.search(r"^clientPort=(\d+)", config, re.MULTILINE)[1])
    # The tests number an ensemble's servers by their folders: srv1, srv2, ...
    number = int(re.search(r"^dataDir=.*?(\d+)$", config, re.MULTILINE)[1])
    targets = os.environ["FORWARD_TO"].split(",")
    host, target_port = targets[(number - 1) % len(targets)].rsplit(":", 1)
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            client, _ = listener.accept()
            serve = threading.Thread(
                target=serve_one, args=(client, (host, int(target_port))), daemon=True
            )
            serve.start()


def serve_one(client, target):
    try:
        server = socket.create_connection(target)
        word = client.recv(len(SRVR), socket.MSG_WAITALL)
        server.sendall(word)
        if word == SRVR:
            client.sendall(with_old_date(read_all(server)))
            client.close()
            return
    except OSError:
        client.close()
        return
    threading.Thread(target=forward, args=(server, client), daemon=True).start()
    forward(client, server)


def read_all(server):
    answer = b""
    while part := server.recv(READ_BYTES):
        answer += part
    return answer


def with_old_date(answer):
    """The tests wait for `srvr` and parse the date of the build as ZooKeeper wrote it before 3.9."""
    return re.sub(rb"built on (\d{4})-(\d\d)-(\d\d)", rb"built on \2/\3/\1", answer)


def forward(source, sink):
    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while part := source.recv(READ_BYTES):
            sink.sendall(part)
    except OSError:
        pass
    for each in (source, sink):
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


if __name__ == "__main__":
    main()
