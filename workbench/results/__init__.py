"""What jobs return and searches find, in plain JSON, whatever the model family."""
