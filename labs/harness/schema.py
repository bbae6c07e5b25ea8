"""The published JSON Schemas, derived from the model: `python -m labs.harness.schema` writes them anew.

lab.schema.json is for editors: the first line of a lab.yaml names it, and keys are completed and checked
while one types. result.schema.json is for whoever reads result.json with other tools.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labs.harness.catalog import ROOT
from labs.harness.metrics import METRICS
from labs.harness.model import Lab, Run

DIALECT = "https://json-schema.org/draft/2020-12/schema"  # pydantic's


def lab_schema() -> dict[str, Any]:
    """The schema of lab.yaml: the Lab without its name, which is the folder's, and with the metrics spelt out."""
    schema = Lab.model_json_schema()
    del schema["properties"]["name"]
    schema["required"].remove("name")
    schema["$defs"]["Claim"]["properties"]["measure"] = {
        "description": "The metric.",
        "oneOf": [{"const": metric.name, "description": metric.describes} for metric in METRICS.values()],
    }
    return {"$schema": DIALECT, **schema}


def result_schema() -> dict[str, Any]:
    """The schema of result.json."""
    return {"$schema": DIALECT, **Run.model_json_schema()}


def published(root: Path = ROOT) -> dict[Path, str]:
    """Every published schema: its file and the text that belongs into it."""
    schemas = {"lab.schema.json": lab_schema(), "result.schema.json": result_schema()}
    return {root / "labs" / name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
            for name, schema in schemas.items()}


if __name__ == "__main__":
    for path, text in published().items():
        path.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT).as_posix())
