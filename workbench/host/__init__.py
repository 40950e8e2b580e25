"""OS helpers: files, locks, processes, mounts, signals and logs; independent of jobs and runs."""
