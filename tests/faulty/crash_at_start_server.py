"""Ends before it is ready."""

import sys

print("reading settings", file=sys.stderr)
print("settings.ini: no such file", file=sys.stderr)
sys.exit(4)
