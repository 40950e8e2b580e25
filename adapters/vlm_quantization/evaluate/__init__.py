"""The eval job: what is asked, how it is measured, against which baselines, and the report."""
