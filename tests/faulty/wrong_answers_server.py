"""Answers in lower case."""

import socketserver

from servers.contract import run


class Wrong(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.lower())


def serve(listener):
    server = socketserver.ThreadingTCPServer(listener.getsockname(), Wrong, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    run(serve)
