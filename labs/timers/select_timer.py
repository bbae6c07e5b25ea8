"""How long a select lasts that was to last 0.1 ms, on a socket that stays silent."""

import select
import socket

from waits import report

silent, _other = socket.socketpair()  # Windows wants something to watch
report(lambda seconds: select.select([silent], [], [], seconds))
