"""The train job: batches, losses, validation and the loop."""
