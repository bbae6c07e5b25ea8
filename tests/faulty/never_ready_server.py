"""Never announces itself."""

import threading

threading.Event().wait()
