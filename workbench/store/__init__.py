"""The database: experiments, runs, metric points, jobs and results, in SQLite or PostgreSQL."""
