"""Results of jobs and of searches, as plain JSON, for all model families."""
