"""Serves rightly, and crashes at its 500th receive."""

import selectors

from servers.contract import run


def serve(listener):
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        count = 0
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                data = key.fileobj.recv(65536)
                if not data:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                count += 1
                if count == 500:
                    raise RuntimeError("the 500th was one too many")
                key.fileobj.sendall(data.upper())


if __name__ == "__main__":
    run(serve)
