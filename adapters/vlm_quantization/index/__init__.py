"""An index on disk: building it in shards, opening it, ranking its codes."""
