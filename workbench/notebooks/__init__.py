"""Job notebooks: finding them, checking their parameters, executing and saving them."""
