"""The eval job: ranking tasks, measurements, baselines, and the report."""
