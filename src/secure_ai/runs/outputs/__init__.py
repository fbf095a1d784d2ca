"""From finished stages to the report and the named files of a run."""
