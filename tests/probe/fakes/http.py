"""HTTP fronts without HTTP features: ``/healthz`` from the node table, calls by name below ``/call/``."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import msgspec

from volumed.bus import calls
from volumed.bus.caller import Caller
from volumed.config.node import load_node_config
from volumed.errors import VolumedError
from volumed.nodetable import NodeTable
from volumed.processes import die_with_parent

config = load_node_config(sys.argv[1])
table = NodeTable(config.node_table_path())
caller = Caller()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer(200 if table.healthy else 503, b"")
            return
        _, _, target, name = url.path.split("/")
        request = msgspec.convert(
            dict(parse_qsl(url.query, keep_blank_values=True)), getattr(calls, name), strict=False
        )
        endpoint = config.supervisor_endpoint()
        if target != "supervisor":
            row = table.disks[int(target)]
            endpoint = config.worker_endpoint(int(target), row.epoch)
        try:
            self.answer(200, msgspec.json.encode(caller.call(endpoint, request, 10.0)))
        except VolumedError as error:
            self.answer(500, json.dumps(error.to_wire()).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if not os.read(int(os.environ["VOLUMED_GO_FD"]), 1):
        return
    listener = socket.socket(fileno=int(os.environ["VOLUMED_ADMIN_FD"]))
    server = ThreadingHTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket = listener
    listener.listen()
    table.fronts[0].claim(os.getpid())
    server.serve_forever()


main()
