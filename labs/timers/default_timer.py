"""How long a wait of 0.1 ms lasts on the poller that `selectors` picks, on a socket that stays silent."""

import selectors
import socket

from waits import report

silent, _other = socket.socketpair()
selector = selectors.DefaultSelector()
selector.register(silent, selectors.EVENT_READ)
report(selector.select)
