"""What the machine gives: files, locks, processes, mounts, signals and logs; it knows no job and no run."""
