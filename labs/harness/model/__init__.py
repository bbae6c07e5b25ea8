"""The data that everything else is about. Frozen, checked on construction, free of I/O.

lab.yaml is parsed into a Lab and result.json is a dumped Run, so the JSON Schemas published beside the
labs (lab.schema.json, result.schema.json) are derived from this file and can not drift from it.

Units are part of the names: seconds, bytes, us (microseconds). Shares lie in 0..1.
"""

from labs.harness.model.lab import QUICK, Cell, Claim, Experiment, Fact, Lab, Load, Timing
from labs.harness.model.run import (
    FleetResult,
    Latency,
    Machine,
    Result,
    Run,
    ServerModel,
    Trial,
    Usage,
    Verdict,
)
from labs.harness.model.words import NAME, Frozen, Language, Name, Outcome, Profile, Protocol, Text, say

__all__ = [
    "NAME", "QUICK", "Cell", "Claim", "Experiment", "Fact", "FleetResult", "Frozen", "Lab", "Language",
    "Latency", "Load", "Machine", "Name", "Outcome", "Profile", "Protocol", "Result", "Run", "ServerModel",
    "Text", "Timing", "Trial", "Usage", "Verdict", "say",
]
